//! Pure: in which order jobs are locked. Layers, each of jobs that may be locked at once; unlocking goes the same way back.

use super::metadata::JobName;

/// A job on an instance, and before which jobs it wants to be locked.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub(crate) job: &'a str,
    pub(crate) release: &'a str,
    pub(crate) before: &'a [JobName],
}

/// The wishes contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cyclic;

/// Numbers of nodes, layer by layer. A wish about a job that is not there counts for nothing. Without `by_release` only
/// names of jobs are compared.
pub(crate) fn layers(nodes: &[Node<'_>], by_release: bool) -> Result<Vec<Vec<usize>>, Cyclic> {
    let precedes = |first: &Node<'_>, second: &Node<'_>| {
        let fits = |name: &JobName| name.job_name == second.job && (!by_release || name.release == second.release);
        first.before.iter().any(fits)
    };
    let mut left: Vec<usize> = (0..nodes.len()).collect();
    let mut layers = Vec::new();
    while !left.is_empty() {
        let is_free = |node: &usize| !left.iter().any(|other| precedes(&nodes[*other], &nodes[*node]));
        let (layer, rest): (Vec<usize>, Vec<usize>) = left.iter().copied().partition(is_free);
        if layer.is_empty() {
            return Err(Cyclic);
        }
        layers.push(layer);
        left = rest;
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a>b` is a wish of every `a`; nodes are named once or several times, for several instances.
    #[track_caller]
    fn check(nodes: &str, wishes: &str, expected: Option<&str>) {
        let jobs: Vec<&str> = nodes.split(' ').collect();
        let name = |word: &str| {
            let (release, job_name) = word.split_once('/').unwrap_or(("r", word));
            JobName { job_name: job_name.to_owned(), release: release.to_owned() }
        };
        let wishes: Vec<(&str, JobName)> = wishes
            .split_whitespace()
            .map(|wish| wish.split_once('>').unwrap())
            .map(|(first, second)| (first, name(second)))
            .collect();
        let before: Vec<Vec<JobName>> = jobs
            .iter()
            .map(|job| wishes.iter().filter(|(first, _)| first == job).map(|(_, second)| second.clone()).collect())
            .collect();
        let nodes: Vec<Node<'_>> =
            jobs.iter().zip(&before).map(|(job, before)| Node { job, release: "r", before }).collect();
        let found = layers(&nodes, true).ok().map(|layers| {
            let words = |layer: &Vec<usize>| layer.iter().map(|at| jobs[*at]).collect::<Vec<_>>().join(" ");
            layers.iter().map(words).collect::<Vec<_>>().join(" | ")
        });
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn jobs_without_wishes_are_one_layer() {
        check("a b c", "", Some("a b c"));
    }

    #[test]
    fn a_chain_and_a_diamond_are_laid_out() {
        check("c b a", "a>b b>c", Some("a | b | c"));
        check("a b c d", "a>b a>c b>d c>d", Some("a | b c | d"));
    }

    #[test]
    fn a_wish_holds_on_every_instance() {
        check("b a b a", "a>b", Some("a a | b b"));
    }

    #[test]
    fn a_wish_about_an_absent_job_or_another_release_counts_for_nothing() {
        check("a b", "a>z a>other/b", Some("a b"));
    }

    #[test]
    fn a_circle_is_refused() {
        check("a b c", "a>b b>a", None);
        check("a", "a>a", None);
    }

    #[test]
    fn without_releases_names_alone_are_compared() {
        let before = [JobName { job_name: "b".into(), release: "other".into() }];
        let nodes = [Node { job: "b", release: "", before: &[] }, Node { job: "a", release: "", before: &before }];
        assert_eq!(layers(&nodes, false), Ok(vec![vec![1], vec![0]]));
        assert_eq!(layers(&nodes, true), Ok(vec![vec![0, 1]]));
    }
}
