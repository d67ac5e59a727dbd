//! Compiles the settings of the allocator and hands them to the linker as they are: nothing names what they hold, so from
//! a library they would be left out.

fn main() {
    let source = "src/allocator.c";
    println!("cargo::rerun-if-changed={source}");
    for object in cc::Build::new().file(source).compile_intermediates() {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
}
