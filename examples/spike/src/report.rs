//! The report: one table (or the same numbers as JSON) with a column for each mode, and one chart of how
//! latency went as the load rose and fell.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::{Value, json};

use crate::Mode;
use crate::load::{Failed, Load, Outcome, SLICES, Schedule, Slice};

/// A run in one mode.
pub struct Run {
    pub mode: Mode,
    pub outcome: Outcome,
    pub connections_opened: u64,
    pub queries: u64,
}

/// Latencies up to this are good enough for somebody who is waiting for a page.
const PROMPT_MICROSECONDS: u64 = 100_000;

impl Run {
    fn served_promptly(&self) -> u64 {
        self.outcome.latency.count_between(0, PROMPT_MICROSECONDS)
    }
}

/// The table, in lines that end with a line feed.
pub fn table(runs: &[Run]) -> String {
    let column = |cell: &dyn Fn(&Run) -> String| runs.iter().map(cell).collect::<Vec<_>>();
    let count = |count: fn(&Run) -> u64| column(&|run| grouped(count(run)));
    let of_failed = |count: fn(&Failed) -> u64| column(&|run| grouped(count(&run.outcome.failed)));
    let at = |quantile: f64, histogram: fn(&Outcome) -> &Histogram<u64>| {
        column(&|run| {
            let histogram = histogram(&run.outcome);
            if histogram.is_empty() { "-".into() } else { milliseconds(histogram.value_at_quantile(quantile)) }
        })
    };
    let rows = [
        ("", column(&|run| run.mode.to_string())),
        ("requests offered", count(|run| run.outcome.offered)),
        ("  served", count(|run| run.outcome.served)),
        ("    within 100 ms", count(Run::served_promptly)),
        ("  shed (503, retry later)", count(|run| run.outcome.shed)),
        ("  failed", count(|run| run.outcome.failed.total())),
        ("    no connection free", of_failed(|failed| failed.unsent)),
        ("    no answer", of_failed(|failed| failed.unanswered)),
        ("    error", of_failed(|failed| failed.errors)),
        ("latency of what was served", vec![String::new(); runs.len()]),
        ("  p50", at(0.5, |outcome| &outcome.latency)),
        ("  p99", at(0.99, |outcome| &outcome.latency)),
        ("  max", at(1.0, |outcome| &outcome.latency)),
        ("latency of all answers", vec![String::new(); runs.len()]),
        ("  p50", at(0.5, |outcome| &outcome.answers)),
        ("  p99", at(0.99, |outcome| &outcome.answers)),
        ("  max", at(1.0, |outcome| &outcome.answers)),
        ("database connections opened", count(|run| run.connections_opened)),
        ("database queries made", count(|run| run.queries)),
        ("generator held up, at most", column(&|run| milliseconds(run.outcome.longest_pause.as_micros() as u64))),
    ];
    let widest = |cells: &mut dyn Iterator<Item = &str>| cells.map(|cell| cell.len()).max().unwrap_or(0);
    let names = widest(&mut rows.iter().map(|(name, _)| *name));
    let cells = widest(&mut rows.iter().flat_map(|(_, cells)| cells.iter().map(String::as_str)));
    let mut table = String::new();
    for (number, (name, row)) in rows.iter().enumerate() {
        let row: String = row.iter().map(|cell| format!("  {cell:>cells$}")).collect();
        table.push_str(format!("{name:names$}{row}").trim_end());
        table.push('\n');
        if number == 0 {
            table.push_str(&"-".repeat(names + runs.len() * (cells + 2)));
            table.push('\n');
        }
    }
    table
}

/// The numbers of the table, and the load they belong to.
pub fn json(load: &Load, runs: &[Run]) -> Value {
    let latency = |histogram: &Histogram<u64>| {
        let at = |quantile| (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3);
        json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
    };
    let run = |run: &Run| {
        let outcome = &run.outcome;
        json!({
            "mode": run.mode.to_string(),
            "offered": outcome.offered,
            "served": outcome.served,
            "served_within_100_ms": run.served_promptly(),
            "shed": outcome.shed,
            "failed": outcome.failed.total(),
            "failed_because": {
                "no_connection_free": outcome.failed.unsent,
                "no_answer": outcome.failed.unanswered,
                "error": outcome.failed.errors,
            },
            "served_latency_ms": latency(&outcome.latency),
            "answer_latency_ms": latency(&outcome.answers),
            "database_connections_opened": run.connections_opened,
            "database_queries": run.queries,
            "generator_longest_pause_ms": outcome.longest_pause.as_secs_f64() * 1e3,
        })
    };
    let (from, to) = load.schedule.rates();
    json!({
        "load": {
            "from_rate": from,
            "to_rate": to,
            "seconds": load.schedule.duration().as_secs_f64(),
            "connections": load.connections,
            "pipeline": load.pipeline,
        },
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn milliseconds(microseconds: u64) -> String {
    let milliseconds = microseconds as f64 / 1e3;
    let decimals = if milliseconds < 10.0 {
        2
    } else if milliseconds < 100.0 {
        1
    } else {
        0
    };
    format!("{milliseconds:.decimals$} ms")
}

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 720;
const LEFT: u32 = 84;
/// Room for the names of the lines, which stand beside their ends.
const RIGHT: u32 = 148;
const INK: RGBColor = RGBColor(31, 41, 55);
const PALE: RGBColor = RGBColor(107, 114, 128);
const FAINT: RGBColor = RGBColor(229, 231, 235);

impl Mode {
    fn colour(self) -> RGBColor {
        match self {
            Self::Bare => RGBColor(194, 65, 12),
            Self::Stanchion => RGBColor(3, 105, 161),
        }
    }
}

/// Draws the runs into an SVG file.
pub fn chart(path: &Path, load: &Load, runs: &[Run]) -> anyhow::Result<()> {
    let mut svg = String::new();
    // A drawing error is a foreign type that borrows: keep what it says.
    draw(&mut svg, load, runs).map_err(|error| anyhow!("cannot draw the chart: {error}"))?;
    std::fs::write(path, svg).with_context(|| format!("cannot write the chart to {}", path.display()))
}

type Drawing<'a, T = ()> = Result<T, DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn draw<'a>(svg: &'a mut String, load: &Load, runs: &[Run]) -> Drawing<'a> {
    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let (from, to) = load.schedule.rates();
    let left = LEFT as i32;
    root.draw(&Text::new("A service that survives a spike", (left, 16), font(22.0, INK)))?;
    let subtitle = format!(
        "{} to {} requests a second and back, over {} connections",
        grouped(from.into()),
        grouped(to.into()),
        grouped(load.connections as u64)
    );
    root.draw(&Text::new(subtitle, (left, 46), font(14.0, PALE)))?;
    let (upper, lower) = root.split_vertically(432);
    draw_latency(&root, &upper.margin(84, 0, 0, 0), load, runs)?;
    draw_rates(&root, &lower.margin(16, 8, 0, 0), load, runs)?;
    root.present()
}

/// Latency of what was served: for each mode a band from p50 to p99.
fn draw_latency<'a>(root: &Area<'a>, area: &Area<'a>, load: &Load, runs: &[Run]) -> Drawing<'a> {
    // The axis is of powers of ten of a millisecond.
    let exponent = |microseconds: u64| (microseconds.max(1) as f64 / 1e3).log10();
    let points: Vec<Vec<(f64, f64, f64)>> = runs
        .iter()
        .map(|run| {
            let slices = run.outcome.slices.iter().enumerate();
            let served = slices.filter(|(_, slice)| slice.served > 0);
            let at = |(number, slice): (usize, &Slice)| {
                let at = |quantile| exponent(slice.latency.value_at_quantile(quantile));
                (middle_of_slice(number, load), at(0.5), at(0.99))
            };
            served.map(at).collect()
        })
        .collect();
    let all = || points.iter().flatten();
    let lowest = all().map(|point| point.1).fold(0.0, f64::min).floor();
    let highest = all().map(|point| point.2).fold(1.0, f64::max).ceil();

    let name = |exponent: &f64| match exponent.round() as i32 {
        exponent @ ..3 => format!("{} ms", 10_f64.powi(exponent)),
        exponent => format!("{} s", 10_f64.powi(exponent - 3)),
    };
    let title = "Latency of what was served, from the moment a request was due";
    let mut panel = panel(area, load, title, "", lowest..highest, (highest - lowest) as usize + 1, &name)?;
    let mut names = Vec::new();
    for (run, points) in runs.iter().zip(&points) {
        let colour = run.mode.colour();
        // A gap where nothing was served is a gap in the chart.
        let length = load.schedule.duration().as_secs_f64() / SLICES as f64;
        for points in points.chunk_by(|a, b| b.0 - a.0 < 1.5 * length) {
            let p50 = points.iter().map(|&(x, p50, _)| (x, p50));
            let p99 = points.iter().map(|&(x, _, p99)| (x, p99));
            let outline: Vec<_> = p50.clone().chain(p99.clone().rev()).collect();
            panel.draw_series([Polygon::new(outline, colour.mix(0.14))])?;
            panel.draw_series(LineSeries::new(p99, colour.mix(0.6).stroke_width(1)))?;
            panel.draw_series(LineSeries::new(p50, colour.stroke_width(2)))?;
        }
        if let Some(&(_, p50, p99)) = points.last() {
            names.push((panel.backend_coord(&(0.0, p50)).1, format!("{} p50", run.mode), colour));
            names.push((panel.backend_coord(&(0.0, p99)).1, format!("{} p99", run.mode), colour));
        }
    }
    name_phases(area, &panel, load)?;
    name_lines(root, (WIDTH - RIGHT) as i32 + 8, names)
}

/// What was asked for, and how much of it was served.
fn draw_rates<'a>(root: &Area<'a>, area: &Area<'a>, load: &Load, runs: &[Run]) -> Drawing<'a> {
    let length = load.schedule.duration().as_secs_f64() / SLICES as f64;
    let line = |name: String, colour, run: &Run, count: fn(&Slice) -> u64| {
        let slices = run.outcome.slices.iter().enumerate();
        let rate = |(number, slice)| (middle_of_slice(number, load), count(slice) as f64 / length);
        (name, colour, slices.map(rate).collect::<Vec<_>>())
    };
    // Both modes are offered the same.
    let offered = runs.iter().take(1).map(|run| line("offered".into(), PALE, run, |slice| slice.offered));
    let served = |run: &Run| line(format!("{} served", run.mode), run.mode.colour(), run, |slice| slice.served);
    let lines: Vec<_> = offered.chain(runs.iter().map(served)).collect();

    let highest = lines.iter().flat_map(|(_, _, points)| points).map(|point| point.1).fold(1.0, f64::max);
    let title = "Requests a second, by the moment they were due";
    let mut panel = panel(area, load, title, "seconds since the start", 0.0..1.05 * highest, 6, &|rate| {
        grouped(rate.round() as u64)
    })?;
    // The names stand where the peak ends: there the lines are apart, and what follows is empty.
    let peak_ends = Schedule::PHASES[..3].iter().map(|(_, share)| share).sum::<f64>();
    let (last, axis) = ((peak_ends * SLICES as f64) as usize - 2, panel.backend_coord(&(0.0, 0.0)).1);
    let mut names = Vec::new();
    for (name, colour, points) in lines {
        names.push((panel.backend_coord(&points[last]).1.min(axis - 16), name, colour));
        if colour == PALE {
            panel.draw_series(AreaSeries::new(points.iter().copied(), 0.0, FAINT.mix(0.6)))?;
        }
        panel.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    }
    let x = panel.backend_coord(&(peak_ends * load.schedule.duration().as_secs_f64(), 0.0)).0;
    name_lines(root, x + 10, names)
}

/// The frame of a panel: title, axes, and where the phases of the load begin.
fn panel<'a>(
    area: &Area<'a>,
    load: &Load,
    title: &str,
    x_title: &str,
    y: Range<f64>,
    y_labels: usize,
    y_label: &dyn Fn(&f64) -> String,
) -> Drawing<'a, Panel<'a>> {
    let seconds = load.schedule.duration().as_secs_f64();
    let mut panel = ChartBuilder::on(area)
        .margin_top(46)
        .margin_right(RIGHT)
        .x_label_area_size(if x_title.is_empty() { 26 } else { 46 })
        .y_label_area_size(LEFT)
        .build_cartesian_2d(0.0..seconds, y.clone())?;
    area.draw(&Text::new(title.to_owned(), (LEFT as i32, 4), font(14.0, INK)))?;
    panel
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(PALE)
        .x_labels(11)
        .y_labels(y_labels)
        .x_label_formatter(&|second| format!("{}", (second * 10.0).round() / 10.0))
        .y_label_formatter(y_label)
        .x_desc(x_title)
        .axis_desc_style(font(13.0, PALE))
        .label_style(font(13.0, PALE))
        .draw()?;
    let mut start = 0.0;
    for (_, share) in &Schedule::PHASES[..3] {
        start += share * seconds;
        let line = [(start, y.start), (start, y.end)];
        panel.draw_series(DashedLineSeries::new(line, 3, 4, PALE.mix(0.6).stroke_width(1)))?;
    }
    Ok(panel)
}

/// Writes above a panel what the load does.
fn name_phases<'a>(area: &Area<'a>, panel: &Panel<'a>, load: &Load) -> Drawing<'a> {
    let (left, top) = area.get_base_pixel();
    let mut start = 0.0;
    for (name, share) in Schedule::PHASES {
        let middle = (start + share / 2.0) * load.schedule.duration().as_secs_f64();
        let (x, y) = panel.backend_coord(&(middle, panel.y_range().end));
        let style = font(12.0, PALE).pos(Pos::new(HPos::Center, VPos::Bottom));
        area.draw(&Text::new(name, (x - left, y - top - 4), style))?;
        start += share;
    }
    Ok(())
}

/// Writes the names of lines at `x`, each at the height of its line if there is room, and apart.
fn name_lines<'a>(root: &Area<'a>, x: i32, mut names: Vec<(i32, String, RGBColor)>) -> Drawing<'a> {
    const APART: i32 = 17;
    names.sort_by_key(|name| name.0);
    let mut lowest = i32::MAX;
    for (y, _, _) in names.iter_mut().rev() {
        *y = (*y).min(lowest);
        lowest = *y - APART;
    }
    for (y, name, colour) in names {
        let style = font(13.0, colour).pos(Pos::new(HPos::Left, VPos::Center));
        let (width, height) = root.estimate_text_size(&name, &style)?;
        let (right, half) = (x + width as i32, height as i32 / 2 + 1);
        root.draw(&Rectangle::new([(x - 4, y - half), (right, y + half)], WHITE.filled()))?; // over the grid
        root.draw(&Text::new(name, (x, y), style))?;
    }
    Ok(())
}

fn middle_of_slice(number: usize, load: &Load) -> f64 {
    load.schedule.duration().as_secs_f64() * (number as f64 + 0.5) / SLICES as f64
}

fn font(size: f64, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn example() -> anyhow::Result<(Load, Vec<Run>)> {
        let load = Load {
            schedule: Schedule::new(10, 100, 2),
            connections: 4,
            pipeline: 2,
            patience: Duration::from_secs(1),
            drain: Duration::from_secs(1),
        };
        let run = |mode, milliseconds| -> anyhow::Result<Run> {
            let mut outcome = Outcome::new(load.schedule.duration())?;
            for number in 0..load.schedule.total() {
                let due = load.schedule.due(number);
                outcome.offer(due);
                let status = if number % 10 == 0 { 503 } else { 200 };
                outcome.answer(due, due + Duration::from_millis(milliseconds), status);
            }
            Ok(Run { mode, outcome, connections_opened: 4, queries: 1_234_567 })
        };
        Ok((load, vec![run(Mode::Bare, 400)?, run(Mode::Stanchion, 2)?]))
    }

    #[test]
    fn the_table_has_a_column_for_each_mode() -> anyhow::Result<()> {
        let (_, runs) = example()?;
        let table = table(&runs);
        let row = |name: &str| -> anyhow::Result<Vec<String>> {
            let line = table.lines().find(|line| line.trim().starts_with(name)).context("no such row")?;
            Ok(line.trim().replacen(name, "", 1).replace(" ms", "").split_whitespace().map(str::to_owned).collect())
        };
        assert_eq!(row("bare")?, ["stanchion"]);
        assert_eq!(row("database queries made")?, ["1,234,567", "1,234,567"]);
        assert_eq!(row("p50")?, ["400", "2.00"]);
        assert_eq!(row("failed")?, ["0", "0"]);
        assert!(table.lines().all(|line| line.len() < 80), "{table}");
        Ok(())
    }

    #[test]
    fn the_json_has_the_same_numbers() -> anyhow::Result<()> {
        let (load, runs) = example()?;
        let json = json(&load, &runs);
        assert_eq!(json["load"]["to_rate"], 100);
        assert_eq!(json["runs"][1]["mode"], "stanchion");
        assert_eq!(json["runs"][0]["offered"], load.schedule.total());
        assert_eq!(json["runs"][1]["database_queries"], 1_234_567);
        Ok(())
    }

    #[test]
    fn the_chart_is_drawn_even_of_nothing() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("chart.svg");
        let (load, mut runs) = example()?;
        chart(&path, &load, &runs)?;
        let svg = std::fs::read_to_string(&path)?;
        assert!(svg.contains("stanchion p99") && svg.trim_end().ends_with("</svg>"));

        runs[0].outcome = Outcome::new(load.schedule.duration())?;
        chart(&path, &load, &runs[..1])?;
        assert!(chart(directory.path(), &load, &runs).is_err());
        Ok(())
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([1_234, 12_345, 1_234_567].map(milliseconds), ["1.23 ms", "12.3 ms", "1235 ms"]);
    }
}
