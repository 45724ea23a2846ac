//! The page `stanchion::_guide::loom` shows code of this package, which `cargo test` compiles, and no other.

#![cfg(not(loom))]

const PAGE: &str = include_str!("../../../src/guide/loom.md");

const PACKAGE: &[&str] = &[
    include_str!("../Cargo.toml"),
    include_str!("../src/jobs.rs"),
    include_str!("../src/sync.rs"),
    include_str!("loom/main.rs"),
    include_str!("loom/models.rs"),
    include_str!("loom/outcomes.rs"),
];

/// Lines without their indentation, each with its end, after the end of the line before.
fn unindented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold("\n".to_owned(), |text, line| text + line.trim() + "\n")
}

#[test]
fn every_block_of_code_on_the_page_stands_in_the_package() {
    let package: Vec<_> = PACKAGE.iter().map(|file| unindented(file.lines())).collect();
    let mut blocks = 0;
    let mut lines = PAGE.lines();
    while let Some(fence) = lines.find(|line| line.starts_with("```")) {
        let block = lines.by_ref().take_while(|line| *line != "```");
        // What rustdoc hides is not shown.
        let block = unindented(block.filter(|line| *line != "#" && !line.starts_with("# ")));
        if fence.starts_with("```rust") || fence == "```toml" {
            assert!(package.iter().any(|file| file.contains(&block)), "not in the package:\n{block}");
            blocks += 1;
        } else {
            assert!(["```sh", "```text"].contains(&fence), "neither code nor a command: {fence}");
        }
    }
    assert!(blocks > 5, "the page has lost its code");
}
