//! The chart: for each row of the page a dot where the nearest peer is, that with the lowest ratio, on a logarithmic axis.
//! A line through the dot reaches from its lowest to its highest round.
//!
//! The picture has no background and only colours of middle lightness, so that it can be read on a white page and on a
//! dark one.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::{Ratio, Results};
use crate::rows::{PRIMITIVES, Primitive, Row};

const WIDTH: u32 = 1000;
const ROW: i32 = 20;
/// Where the axis begins and ends; the names of rows are left of it, those of peers right.
const AXIS: (i32, i32) = (420, 800);
const MARKS: [f64; 9] = [0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 10.0];

const TEXT: RGBColor = RGBColor(117, 125, 135);
const FASTER: RGBColor = RGBColor(56, 139, 253);
const SLOWER: RGBColor = RGBColor(214, 72, 72);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture as SVG.
pub fn draw(results: &Results) -> Result<String> {
    let lines: Vec<_> = PRIMITIVES.iter().flat_map(|primitive| lines_of(primitive, results)).collect();
    let bottom = ROW * (lines.len() as i32 + 2);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, (bottom + ROW).cast_unsigned())).into_drawing_area();
        for mark in MARKS {
            let style = ShapeStyle::from(TEXT.mix(0.3)).stroke_width(if mark == 1.0 { 3 } else { 1 });
            area.draw(&PathElement::new([(x(mark), 2 * ROW), (x(mark), bottom)], style))?;
            text(&area, &mark.to_string(), (x(mark), ROW + ROW / 2), HPos::Center)?;
        }
        for (index, (name, nearest)) in lines.iter().enumerate() {
            let y = ROW * (index as i32 + 2) + ROW / 2;
            text(&area, name, (if nearest.is_some() { 20 } else { 5 }, y), HPos::Left)?;
            if let Some((peer, ratio)) = nearest {
                let colour = if ratio.is_loss() { SLOWER } else { FASTER };
                let line = ShapeStyle::from(colour).stroke_width(2);
                area.draw(&PathElement::new([(x(ratio.min), y), (x(ratio.max), y)], line))?;
                area.draw(&Circle::new((x(ratio.median), y), 4, colour.filled()))?;
                text(&area, &format!("{:.2}  {peer}", ratio.median), (AXIS.1 + 15, y), HPos::Left)?;
            }
        }
        area.present()?;
    }
    Ok(svg)
}

type Line<'a> = (&'a str, Option<(&'a str, Ratio)>);

/// The primitive's name, and then its rows; nothing if no row was measured.
fn lines_of<'a>(primitive: &'a Primitive, results: &Results) -> Vec<Line<'a>> {
    let rows = primitive.rows.iter().map(|row| (row.label, nearest(primitive, row, results)));
    let rows: Vec<Line<'_>> = rows.filter(|(_, nearest)| nearest.is_some()).collect();
    let title = (!rows.is_empty()).then_some((primitive.name, None));
    title.into_iter().chain(rows).collect()
}

/// The peer with the lowest ratio.
fn nearest<'a>(primitive: &'a Primitive, row: &Row, results: &Results) -> Option<(&'a str, Ratio)> {
    let ratios = primitive.peers.iter().filter_map(|peer| Some((*peer, results.ratio(&row.name(), peer)?)));
    ratios.min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median))
}

/// Where a ratio is; one beyond the ends, at the end.
fn x(ratio: f64) -> i32 {
    let (low, high) = (MARKS[0], MARKS[MARKS.len() - 1]);
    let share = (ratio.clamp(low, high) / low).ln() / (high / low).ln();
    AXIS.0 + (share * f64::from(AXIS.1 - AXIS.0)).round() as i32
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), to: HPos) -> Result<()> {
    let style = ("sans-serif", 15).into_text_style(area).color(&TEXT).pos(Pos::new(to, VPos::Center));
    area.draw(&Text::new(text, at, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OURS;

    #[test]
    fn every_row_has_the_dot_of_its_nearest_peer() {
        let mut results = Results::default();
        for (row, mea, tokio) in [("mutex/free/lock", 9.0, 25.0), ("mutex/free/try_lock", 40.0, 30.0)] {
            for (contender, time) in [(OURS, 10.0), ("mea", mea), ("tokio", tokio)] {
                results.add(row, contender, 1, time);
            }
        }
        let svg = draw(&results).unwrap();
        for text in ["mutex", "lock + unlock", "0.90  mea", "3.00  tokio"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert_eq!((svg.matches("<circle").count(), svg.contains("semaphore")), (2, false));
    }

    #[test]
    fn the_axis_is_logarithmic_and_ends_at_its_marks() {
        assert_eq!((x(0.001), x(1e9)), AXIS);
        assert!((x(2.0) - x(1.0) - (x(1.0) - x(0.5))).abs() <= 1);
    }
}
