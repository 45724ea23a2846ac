//! BENCHMARKS.md is written by hand except for what stands between pairs of markers; that is replaced.

use anyhow::{Result, bail};

/// The page with `generated` between the markers of that name.
pub fn replace(page: &str, name: &str, generated: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let Some((before, rest)) = page.split_once(&begin) else { bail!("BENCHMARKS.md has no line `{begin}`") };
    let Some((_, after)) = rest.split_once(&end) else { bail!("BENCHMARKS.md has no line `{end}` after `{begin}`") };
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", generated.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_the_markers_stays() {
        let other = "<!-- other:begin -->\nold\n<!-- other:end -->\n";
        let page = format!("before\n{other}<!-- report:begin -->\nold\n<!-- report:end -->\nafter\n");
        let once = replace(&page, "report", "new\n").unwrap();
        assert_eq!(once, format!("before\n{other}<!-- report:begin -->\n\nnew\n\n<!-- report:end -->\nafter\n"));
        assert_eq!(replace(&once, "report", "new").unwrap(), once);
    }

    #[test]
    fn a_missing_marker_is_named() {
        let begin = replace("<!-- report:end -->", "report", "").unwrap_err().to_string();
        assert_eq!(begin, "BENCHMARKS.md has no line `<!-- report:begin -->`");
        let end = replace("<!-- report:end --><!-- report:begin -->", "report", "").unwrap_err().to_string();
        assert_eq!(end, "BENCHMARKS.md has no line `<!-- report:end -->` after `<!-- report:begin -->`");
    }
}
