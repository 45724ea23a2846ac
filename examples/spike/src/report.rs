//! The report: a table with a column for each mode, a table with a row for each class of requests, or the
//! same numbers as JSON; and one chart of how latency went as the load rose and fell.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::{Value, json};

use crate::Mode;
use crate::load::{Failed, Load, Outcome, SLICES, Schedule, Slice, Tally};
use crate::service::{Class, Waits};

/// A run in one mode.
pub struct Run {
    pub mode: Mode,
    /// Of the load that the spike is compared with.
    pub unloaded: Outcome,
    /// Of the spike.
    pub outcome: Outcome,
    pub connections_opened: u64,
    /// For a connection.
    pub waits: Waits,
    /// Of the cache, if there is one.
    pub hit_ratio: Option<f64>,
    pub queries: u64,
    pub queries_for_hottest: u64,
}

/// Latencies up to this are good enough for somebody who is waiting for a page.
const PROMPT_MICROSECONDS: u64 = 100_000;

impl Run {
    fn served_promptly(&self) -> u64 {
        self.outcome.total.latency.count_between(0, PROMPT_MICROSECONDS)
    }

    /// What came of a class without load and at the peak.
    fn of(&self, class: Class) -> (&Tally, &Tally) {
        (&self.unloaded.focus[class as usize], &self.outcome.focus[class as usize])
    }
}

/// How many times its unloaded p99 a class's p99 is at the peak.
fn growth(unloaded: &Tally, peak: &Tally) -> Option<f64> {
    let p99 = |tally: &Tally| tally.latency.value_at_quantile(0.99) as f64;
    (unloaded.served > 0 && peak.served > 0).then(|| p99(peak) / p99(unloaded))
}

/// The tables, in lines that end with a line feed.
pub fn tables(load: &Load, runs: &[Run]) -> String {
    format!("{}\n{}", by_mode(runs), by_class(load, runs))
}

fn by_class(load: &Load, runs: &[Run]) -> String {
    let parts: u32 = load.mix.iter().sum();
    let mut table = format!("{:25}{:>14}{:>19}\n", "latency of what was served", "unloaded", "at the peak");
    table.push_str(&line(["", "", "p50", "p99", "p50", "p99", "grew to", "served"]));
    table.push_str(&"-".repeat(table.lines().last().map_or(0, str::len)));
    table.push('\n');
    for run in runs {
        for class in Class::ALL.into_iter().rev() {
            let (unloaded, peak) = run.of(class);
            let share = 100.0 * f64::from(load.mix[class as usize]) / f64::from(parts);
            table.push_str(&line([
                &run.mode.to_string(),
                &format!("{} ({share:.0} %)", class.name()),
                &quantile(0.5, &unloaded.latency),
                &quantile(0.99, &unloaded.latency),
                &quantile(0.5, &peak.latency),
                &quantile(0.99, &peak.latency),
                &growth(unloaded, peak).map_or("-".into(), |growth| format!("{growth:.1}x")),
                &percent(peak.served as f64 / peak.offered.max(1) as f64),
            ]));
        }
    }
    table
}

fn line([mode, class, cells @ ..]: [&str; 8]) -> String {
    let cells: String = cells.iter().map(|cell| format!(" {cell:>8}")).collect();
    format!("{mode:9} {class:12}{cells}\n")
}

fn quantile(quantile: f64, histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() { "-".into() } else { milliseconds(histogram.value_at_quantile(quantile)) }
}

fn by_mode(runs: &[Run]) -> String {
    let column = |cell: &dyn Fn(&Run) -> String| runs.iter().map(cell).collect::<Vec<_>>();
    let count = |count: fn(&Run) -> u64| column(&|run| grouped(count(run)));
    let of_failed = |count: fn(&Failed) -> u64| column(&|run| grouped(count(&run.outcome.total.failed)));
    let at = |at: f64, histogram: fn(&Outcome) -> &Histogram<u64>| column(&|run| quantile(at, histogram(&run.outcome)));
    let wait = |wait: fn(&Waits) -> Duration| column(&|run| milliseconds(wait(&run.waits).as_micros() as u64));
    let rows = [
        ("", column(&|run| run.mode.to_string())),
        ("requests offered", count(|run| run.outcome.total.offered)),
        ("  served", count(|run| run.outcome.total.served)),
        ("    within 100 ms", count(Run::served_promptly)),
        ("  shed (503, retry later)", count(|run| run.outcome.total.shed)),
        ("  failed", count(|run| run.outcome.total.failed.total())),
        ("    no connection free", of_failed(|failed| failed.unsent)),
        ("    no answer", of_failed(|failed| failed.unanswered)),
        ("    error", of_failed(|failed| failed.errors)),
        ("latency of what was served", vec![String::new(); runs.len()]),
        ("  p50", at(0.5, |outcome| &outcome.total.latency)),
        ("  p99", at(0.99, |outcome| &outcome.total.latency)),
        ("  max", at(1.0, |outcome| &outcome.total.latency)),
        ("latency of all answers", vec![String::new(); runs.len()]),
        ("  p50", at(0.5, |outcome| &outcome.answers)),
        ("  p99", at(0.99, |outcome| &outcome.answers)),
        ("  max", at(1.0, |outcome| &outcome.answers)),
        ("database connections opened", count(|run| run.connections_opened)),
        ("  wait for one, on average", wait(Waits::mean)),
        ("  wait for one, at most", wait(|waits| waits.longest)),
        ("answered from the cache", column(&|run| run.hit_ratio.map_or("-".into(), percent))),
        ("database queries made", count(|run| run.queries)),
        ("  for the hottest product", count(|run| run.queries_for_hottest)),
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
    let tally = |tally: &Tally| {
        json!({
            "offered": tally.offered,
            "served": tally.served,
            "shed": tally.shed,
            "failed": tally.failed.total(),
            "served_latency_ms": latency(&tally.latency),
        })
    };
    let class = |run: &Run, class: Class| {
        let (unloaded, peak) = run.of(class);
        json!({
            "class": class.name(),
            "unloaded": tally(unloaded),
            "peak": tally(peak),
            "p99_grew_to": growth(unloaded, peak),
        })
    };
    let run = |run: &Run| {
        let outcome = &run.outcome;
        json!({
            "mode": run.mode.to_string(),
            "offered": outcome.total.offered,
            "served": outcome.total.served,
            "served_within_100_ms": run.served_promptly(),
            "shed": outcome.total.shed,
            "failed": outcome.total.failed.total(),
            "failed_because": {
                "no_connection_free": outcome.total.failed.unsent,
                "no_answer": outcome.total.failed.unanswered,
                "error": outcome.total.failed.errors,
            },
            "served_latency_ms": latency(&outcome.total.latency),
            "answer_latency_ms": latency(&outcome.answers),
            "database_connections_opened": run.connections_opened,
            "database_connection_wait_ms": {
                "mean": run.waits.mean().as_secs_f64() * 1e3,
                "max": run.waits.longest.as_secs_f64() * 1e3,
            },
            "cache_hit_ratio": run.hit_ratio,
            "database_queries": run.queries,
            "database_queries_for_hottest_product": run.queries_for_hottest,
            "generator_longest_pause_ms": outcome.longest_pause.as_secs_f64() * 1e3,
            "classes": Class::ALL.map(|of| class(run, of)),
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
            "mix": Class::ALL.map(|class| json!({ "class": class.name(), "parts": load.mix[class as usize] })),
        },
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
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

impl Class {
    /// With stanchion. Bare, all are alike.
    fn colour(self) -> RGBColor {
        match self {
            Self::Free => RGBColor(125, 190, 226),
            Self::Paying => Mode::Stanchion.colour(),
            Self::Health => RGBColor(21, 128, 61),
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
    root.draw(&Text::new(subtitle, (left, 44), font(14.0, PALE)))?;
    let opened = runs.iter().map(|run| {
        let (mode, longest) = (run.mode, milliseconds(run.waits.longest.as_micros() as u64));
        format!("{mode} {} (longest wait for one {longest})", grouped(run.connections_opened))
    });
    let opened = format!("database connections opened: {}", opened.collect::<Vec<_>>().join(", "));
    root.draw(&Text::new(opened, (left, 63), font(14.0, PALE)))?;
    let (upper, lower) = root.split_vertically(432);
    draw_latency(&root, &upper.margin(84, 0, 0, 0), load, runs)?;
    draw_rates(&root, &lower.margin(16, 8, 0, 0), load, runs)?;
    root.present()
}

/// The p99 of what was served: bare of all, with stanchion of each class.
fn draw_latency<'a>(root: &Area<'a>, area: &Area<'a>, load: &Load, runs: &[Run]) -> Drawing<'a> {
    let mut lines = Vec::new();
    for run in runs {
        match run.mode {
            Mode::Bare => lines.push((format!("{}, all", run.mode), run.mode.colour(), p99s(load, run, &Class::ALL))),
            Mode::Stanchion => {
                lines.extend(Class::ALL.map(|class| {
                    (format!("{}, {}", run.mode, class.name()), class.colour(), p99s(load, run, &[class]))
                }))
            }
        }
    }
    let all = || lines.iter().flat_map(|(_, _, points)| points).map(|point| point.1);
    let lowest = all().fold(0.0, f64::min).floor();
    let highest = all().fold(1.0, f64::max).ceil();

    // The axis is of powers of ten of a millisecond.
    let name = |exponent: &f64| match exponent.round() as i32 {
        exponent @ ..3 => format!("{} ms", 10_f64.powi(exponent)),
        exponent => format!("{} s", 10_f64.powi(exponent - 3)),
    };
    let title = "p99 latency of what was served, from the moment a request was due";
    let mut panel = panel(area, load, title, "", lowest..highest, (highest - lowest) as usize + 1, &name)?;
    let mut names = Vec::new();
    for (name, colour, points) in lines {
        // Where nothing was served for a while is a gap in the chart.
        let length = load.schedule.duration().as_secs_f64() / SLICES as f64;
        for points in points.chunk_by(|a, b| b.0 - a.0 < 5.5 * length) {
            panel.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        }
        if let Some(&(_, p99)) = points.last() {
            names.push((panel.backend_coord(&(0.0, p99)).1, name, colour));
        }
    }
    name_phases(area, &panel, load)?;
    name_lines(root, (WIDTH - RIGHT) as i32 + 8, names)
}

/// Where in time, and the logarithm of the p99 of these classes there.
fn p99s(load: &Load, run: &Run, classes: &[Class]) -> Vec<(f64, f64)> {
    let at = |(number, slice): (usize, &Slice)| {
        let mut latency = slice.latency[classes[0] as usize].clone();
        for &class in &classes[1..] {
            latency += &slice.latency[class as usize];
        }
        let microseconds = latency.value_at_quantile(0.99).max(1) as f64;
        (!latency.is_empty()).then(|| (middle_of_slice(number, load), (microseconds / 1e3).log10()))
    };
    run.outcome.slices.iter().enumerate().filter_map(at).collect()
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

    fn example() -> anyhow::Result<(Load, Vec<Run>)> {
        let schedule = Schedule::new(100, 1_000, Duration::from_secs(2));
        let load = Load {
            schedule,
            mix: Load::SPIKE,
            focus: schedule.peak(),
            connections: 4,
            pipeline: 2,
            patience: Duration::from_secs(1),
            drain: Duration::from_secs(1),
        };
        // Every tenth request is shed; health checks take one unit of time, paying customers two, free ones four.
        let outcome = |unit: u32| -> anyhow::Result<Outcome> {
            let mut outcome = Outcome::new(load.schedule.duration(), load.focus.clone())?;
            for number in 0..load.schedule.total() {
                let due = load.schedule.due(number);
                let class = Class::ALL[number as usize % 3];
                outcome.offer(class, due);
                let status = if number % 10 == 0 { 503 } else { 200 };
                outcome.answer(class, due, due + Duration::from_millis((unit << (2 - class as u32)).into()), status);
            }
            Ok(outcome)
        };
        let run = |mode, unit| -> anyhow::Result<Run> {
            let (unloaded, outcome) = (outcome(1)?, outcome(unit)?);
            let waits = Waits { count: 4, total: Duration::from_millis(10), longest: Duration::from_millis(7) };
            Ok(Run {
                mode,
                unloaded,
                outcome,
                connections_opened: 4,
                waits,
                hit_ratio: (mode == Mode::Stanchion).then_some(0.75),
                queries: 1_234_567,
                queries_for_hottest: 12_345,
            })
        };
        Ok((load.clone(), vec![run(Mode::Bare, 400)?, run(Mode::Stanchion, 2)?]))
    }

    #[test]
    fn the_first_table_has_a_column_for_each_mode() -> anyhow::Result<()> {
        let (_, runs) = example()?;
        let table = by_mode(&runs);
        let row = |name: &str| -> anyhow::Result<Vec<String>> {
            let line = table.lines().find(|line| line.trim().starts_with(name)).context("no such row")?;
            Ok(line.trim().replacen(name, "", 1).replace(" ms", "").split_whitespace().map(str::to_owned).collect())
        };
        assert_eq!(row("bare")?, ["stanchion"]);
        assert_eq!(row("answered from the cache")?, ["-", "75.0", "%"]);
        assert_eq!(row("database queries made")?, ["1,234,567", "1,234,567"]);
        assert_eq!(row("for the hottest product")?, ["12,345", "12,345"]);
        assert_eq!(row("database connections opened")?, ["4", "4"]);
        assert_eq!(row("wait for one, on average")?, ["2.50", "2.50"]);
        assert_eq!(row("wait for one, at most")?, ["7.00", "7.00"]);
        assert_eq!(row("p50")?, ["800", "4.00"]);
        assert_eq!(row("failed")?, ["0", "0"]);
        Ok(())
    }

    #[test]
    fn the_second_table_has_a_row_for_each_class_of_each_mode() -> anyhow::Result<()> {
        let (load, runs) = example()?;
        let table = by_class(&load, &runs);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[3][..4], ["bare", "health", "(1", "%)"]);
        assert_eq!(rows[4][..4], ["bare", "paying", "(9", "%)"]);
        let free = ["stanchion", "free", "(90", "%)", "4.00", "ms", "4.00", "ms", "8.00", "ms", "8.00", "ms", "2.0x"];
        assert_eq!(rows[8][..13], free);
        assert_eq!(rows[8][14..], ["%"]);
        assert_eq!(rows.len(), 9);
        assert!(tables(&load, &runs).lines().all(|line| line.len() < 80), "{table}");

        let nothing = Outcome::new(load.schedule.duration(), load.focus.clone())?;
        let unserved = Run { unloaded: nothing, ..example()?.1.remove(0) };
        assert_eq!(by_class(&load, &[unserved]).lines().last().map(|line| line.matches(" -").count()), Some(3));
        Ok(())
    }

    #[test]
    fn the_json_has_the_same_numbers() -> anyhow::Result<()> {
        let (load, runs) = example()?;
        let json = json(&load, &runs);
        assert_eq!(json["load"]["to_rate"], 1_000);
        assert_eq!(json["load"]["mix"][2], json!({ "class": "health", "parts": 1 }));
        assert_eq!(json["runs"][1]["mode"], "stanchion");
        assert_eq!(json["runs"][0]["offered"], load.schedule.total());
        assert_eq!(json["runs"][1]["database_queries"], 1_234_567);
        assert_eq!(json["runs"][1]["database_queries_for_hottest_product"], 12_345);
        assert_eq!([0, 1].map(|run| json["runs"][run]["cache_hit_ratio"].as_f64()), [None, Some(0.75)]);
        assert_eq!(json["runs"][1]["database_connections_opened"], 4);
        assert_eq!(json["runs"][1]["database_connection_wait_ms"], json!({ "mean": 2.5, "max": 7.0 }));
        let health = &json["runs"][1]["classes"][2];
        assert_eq!(health["class"], "health");
        assert_eq!(health["p99_grew_to"], 2.0);
        let ends = |phase: &str| health[phase]["served"].as_u64() < health[phase]["offered"].as_u64();
        assert!(ends("unloaded") && ends("peak"), "{health}");
        Ok(())
    }

    #[test]
    fn the_chart_is_drawn_even_of_nothing() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("chart.svg");
        let (load, mut runs) = example()?;
        chart(&path, &load, &runs)?;
        let svg = std::fs::read_to_string(&path)?;
        assert!(svg.contains("stanchion, health") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("database connections opened: bare 4 (longest wait for one 7.00 ms), stanchion 4 ("));

        runs[0].outcome = Outcome::new(load.schedule.duration(), load.focus.clone())?;
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
