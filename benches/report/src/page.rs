//! BENCHMARKS.md is written by hand except for what stands between two markers; that is replaced.

use anyhow::{Result, bail};

const BEGIN: &str = "<!-- report:begin -->";
const END: &str = "<!-- report:end -->";

/// The page with `generated` between its markers.
pub fn replace(page: &str, generated: &str) -> Result<String> {
    let Some((before, rest)) = page.split_once(BEGIN) else { bail!("BENCHMARKS.md has no line `{BEGIN}`") };
    let Some((_, after)) = rest.split_once(END) else { bail!("BENCHMARKS.md has no line `{END}` after `{BEGIN}`") };
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", generated.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_the_markers_stays() {
        let page = "before\n<!-- report:begin -->\nold\n<!-- report:end -->\nafter\n";
        let once = replace(page, "new\n").unwrap();
        assert_eq!(once, "before\n<!-- report:begin -->\n\nnew\n\n<!-- report:end -->\nafter\n");
        assert_eq!(replace(&once, "new").unwrap(), once);
    }

    #[test]
    fn a_missing_marker_is_named() {
        let begin = replace("<!-- report:end -->", "").unwrap_err().to_string();
        assert_eq!(begin, "BENCHMARKS.md has no line `<!-- report:begin -->`");
        let end = replace("<!-- report:end --><!-- report:begin -->", "").unwrap_err().to_string();
        assert_eq!(end, "BENCHMARKS.md has no line `<!-- report:end -->` after `<!-- report:begin -->`");
    }
}
