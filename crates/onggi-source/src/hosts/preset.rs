//! Ready-made lists of paths, by what a host is. Absent ones are in order: not every host has every service.

/// Name and paths.
const PRESETS: &[(&str, &[&str])] = &[
    (
        "linux",
        &["/etc", "/root", "/home", "/usr/local", "/opt", "/srv", "/var/spool/cron", "/var/lib/dpkg", "/var/lib/rpm"],
    ),
    (
        "openstack-controller",
        &[
            "/etc/nova",
            "/etc/neutron",
            "/etc/keystone",
            "/etc/cinder",
            "/etc/glance",
            "/etc/swift",
            "/etc/heat",
            "/etc/horizon",
            "/var/lib/nova",
            "/var/lib/glance",
            "/var/lib/keystone",
            "/var/lib/cinder",
        ],
    ),
    (
        "openstack-compute",
        &[
            "/etc/nova",
            "/etc/neutron",
            "/etc/libvirt",
            "/etc/cinder",
            "/etc/glance",
            "/etc/ceilometer",
            "/var/lib/nova/.ssh",
            "/var/lib/libvirt/secrets",
        ],
    ),
    ("kubernetes-node", &["/etc/kubernetes", "/var/lib/kubelet/config.yaml", "/etc/containerd", "/etc/cni"]),
];

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The paths of one.
pub(super) fn paths(name: &str) -> Option<&'static [&'static str]> {
    PRESETS.iter().find(|(own, _)| *own == name).map(|(_, paths)| *paths)
}
