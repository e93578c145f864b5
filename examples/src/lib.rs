//! The `oms` program, programs of single services, and `kql_eval`, which answers Kusto queries of its
//! input. See the README of the workspace, whose programs are compiled and run as tests of this crate.

/// The README's programs.
#[cfg(all(
    doctest,
    feature = "logs",
    feature = "automation",
    feature = "dsc",
    feature = "backup",
    feature = "recovery"
))]
#[doc = include_str!("../../README.md")]
mod readme {}

#[cfg(test)]
mod tests {
    /// How to embed a crate fits on a screen.
    #[test]
    fn each_program_of_the_readme_is_short() {
        let programs: Vec<usize> = include_str!("../../README.md")
            .split("```rust\n")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once("```")?.0.lines().count()))
            .collect();
        assert_eq!(
            programs.len(),
            6,
            "one for each service, and logs within another: {programs:?}"
        );
        assert!(programs.iter().all(|lines| *lines <= 30), "{programs:?}");
    }
}
