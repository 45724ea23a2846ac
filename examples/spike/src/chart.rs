//! The chart: the runs side by side, with the latency of the requests that were served and the outcome of all. The scales
//! are the same for all runs.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::load::Load;
use crate::outcome::{SLICES, Slice};
use crate::parts::Parts;
use crate::report::{Run, grouped, percent};
use crate::request::Class;
use crate::schedule::Schedule;

/// Draws the runs into an SVG file.
pub fn write(path: &Path, load: &Load, runs: &[Run]) -> anyhow::Result<()> {
    let mut svg = String::new();
    // An error of the drawing borrows, so only its text is kept.
    draw(&mut svg, load, runs).map_err(|error| anyhow!("cannot draw the chart: {error}"))?;
    let svg = svg.replacen('>', &format!(">\n{}", dark_style()), 1);
    std::fs::write(path, svg).with_context(|| format!("cannot write the chart to {}", path.display()))
}

/// On a light page and on a dark one.
struct Colour(RGBColor, RGBColor);

const PAPER: Colour = Colour(RGBColor(255, 255, 255), RGBColor(13, 17, 23));
const INK: Colour = Colour(RGBColor(31, 35, 40), RGBColor(240, 246, 252));
const PALE: Colour = Colour(RGBColor(89, 99, 110), RGBColor(145, 152, 161));
const FAINT: Colour = Colour(RGBColor(225, 228, 232), RGBColor(48, 54, 61));
const HEALTH: Colour = Colour(RGBColor(26, 127, 55), RGBColor(63, 185, 80));
const PAYING: Colour = Colour(RGBColor(9, 105, 218), RGBColor(88, 166, 255));
const FREE: Colour = Colour(RGBColor(191, 79, 0), RGBColor(240, 136, 62));
const SERVED: Colour = Colour(RGBColor(160, 190, 222), RGBColor(62, 98, 140));
const SHED: Colour = Colour(RGBColor(250, 204, 21), RGBColor(210, 153, 34));
const FAILED: Colour = Colour(RGBColor(224, 82, 82), RGBColor(200, 60, 62));
const COLOURS: [Colour; 10] = [PAPER, INK, PALE, FAINT, HEALTH, PAYING, FREE, SERVED, SHED, FAILED];

/// Replaces the colours on a dark page.
fn dark_style() -> String {
    let hex = |RGBColor(red, green, blue): RGBColor| format!("#{red:02X}{green:02X}{blue:02X}");
    let rules = COLOURS.map(|Colour(light, dark)| {
        let (light, dark) = (hex(light), hex(dark));
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    });
    format!("<style>@media (prefers-color-scheme:dark){{{}}}</style>", rules.concat())
}

const WIDTH: i32 = 1000;
/// Title and legend.
const TOP: i32 = 120;
/// Room for the numbers and titles of the axes beside the panels.
const LEFT: i32 = 84;
const RIGHT: i32 = 18;
/// Between panels.
const GAP: i32 = 34;
/// Name and figures of a run.
const HEADING: i32 = 60;
const LATENCY: i32 = 220;
const OUTCOMES: i32 = 120;
/// Room for the numbers and the title of the axis below the panels.
const SECONDS: i32 = 42;
const ROW: i32 = HEADING + LATENCY + GAP + OUTCOMES + SECONDS + GAP;

type Drawing<'a, T = ()> = Result<T, DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn draw<'a>(svg: &'a mut String, load: &Load, runs: &[Run]) -> Drawing<'a> {
    // Four are best looked at as two by two.
    let across = if runs.len() == 4 { 2 } else { runs.len().clamp(1, 3) };
    let rows = runs.len().div_ceil(across) as i32;
    let root = SVGBackend::with_string(svg, (WIDTH as u32, (TOP + rows * ROW) as u32)).into_drawing_area();
    root.fill(&PAPER.0)?;
    title(&root, load)?;
    let latencies: Vec<_> = runs.iter().map(|run| p99s(load, run)).collect();
    let all = || latencies.iter().flatten().flatten().map(|point| point.1);
    let latency_range = all().fold(0.0, f64::min)..all().fold(1.0, f64::max).ceil();
    let length = load.schedule.duration().as_secs_f64() / SLICES as f64;
    let offered = runs.iter().flat_map(|run| &run.outcome.slices).map(|slice| slice.offered).max();
    let rate_range = 0.0..1.05 * offered.unwrap_or(0).max(1) as f64 / length;
    let width = (WIDTH - LEFT - RIGHT - GAP * (across as i32 - 1)) / across as i32;
    for (number, (run, latencies)) in runs.iter().zip(latencies).enumerate() {
        let (row, column) = ((number / across) as i32, (number % across) as i32);
        let (x, y) = (LEFT + column * (width + GAP), TOP + row * ROW);
        root.draw(&Text::new(heading(run, across), (x, y + 10), bold(15)))?;
        root.draw(&Text::new(figures(run), (x, y + 30), font(13, &PALE)))?;
        let beside = if column == 0 { LEFT } else { 0 };
        let area = |y: i32, height: i32| root.clone().shrink((x - beside, y), (width + beside, height));
        let latency = area(y + HEADING, LATENCY);
        draw_latency(&latency, beside, load, latency_range.clone(), latencies)?;
        let outcomes = area(y + HEADING + LATENCY + GAP, OUTCOMES + SECONDS);
        draw_outcomes(&outcomes, beside, load, rate_range.clone(), &run.outcome.slices)?;
    }
    root.present()
}

/// Writes the title and the legend.
fn title<'a>(root: &Area<'a>, load: &Load) -> Drawing<'a> {
    let (from, to) = load.schedule.rates();
    root.draw(&Text::new("A service that meets a spike", (LEFT, 18), bold(22)))?;
    let subtitle = format!(
        "{} to {} requests a second and back, over {} connections",
        grouped(from.into()),
        grouped(to.into()),
        grouped(load.connections as u64)
    );
    root.draw(&Text::new(subtitle, (LEFT, 47), font(14, &PALE)))?;
    legend(
        root,
        80,
        "p99 latency of served requests; at a gap none was",
        3,
        [("health checks", &HEALTH), ("paying", &PAYING), ("free", &FREE)],
    )?;
    legend(
        root,
        102,
        "outcome of all requests, by the time at which they were due",
        12,
        [("served", &SERVED), ("shed at once", &SHED), ("failed", &FAILED)],
    )
}

/// The name of a run, and the parts of the service with all where there is room for them.
fn heading(run: &Run, across: usize) -> String {
    if run.name == Parts::ALL.to_string() && across < 3 {
        return format!("{}: {}", run.name, run.parts.join(", "));
    }
    run.name.clone()
}

fn figures(run: &Run) -> String {
    let served = percent(run.outcome.total.share_served());
    let connections = if run.connections_opened == 1 { "connection" } else { "connections" };
    format!("{served} served, {} {connections} opened", grouped(run.connections_opened))
}

/// Names the colours of lines or of areas, as `thick` as they are drawn here.
fn legend<'a>(root: &Area<'a>, y: i32, title: &str, thick: i32, names: [(&str, &Colour); 3]) -> Drawing<'a> {
    let style = font(14, &INK).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(title.to_owned(), (LEFT, y), style.clone()))?;
    for (place, (name, colour)) in (0..).zip(names) {
        let (x, top) = (LEFT + 440 + 130 * place, y - thick / 2);
        root.draw(&Rectangle::new([(x, top), (x + 14, top + thick)], colour.0.filled()))?;
        root.draw(&Text::new(name.to_owned(), (x + 20, y), style.clone()))?;
    }
    Ok(())
}

/// A line: seconds, and heights.
type Points = Vec<(f64, f64)>;

/// Returns for each class the logarithm of the p99 latency of the requests that were served.
fn p99s(load: &Load, run: &Run) -> [Points; Class::ALL.len()] {
    Class::ALL.map(|class| {
        let at = |(number, slice): (usize, &Slice)| {
            let latency = &slice.latency[class as usize];
            let milliseconds = latency.value_at_quantile(0.99).max(1) as f64 / 1e3;
            (!latency.is_empty()).then(|| (middle_of_slice(number, load), milliseconds.log10()))
        };
        run.outcome.slices.iter().enumerate().filter_map(at).collect()
    })
}

fn draw_latency<'a>(
    area: &Area<'a>,
    beside: i32,
    load: &Load,
    range: Range<f64>,
    lines: [Points; Class::ALL.len()],
) -> Drawing<'a> {
    // The axis is of powers of ten of a millisecond.
    let name = |exponent: &f64| match exponent.round() as i32 {
        exponent @ ..3 => format!("{} ms", 10_f64.powi(exponent)),
        exponent => format!("{} s", 10_f64.powi(exponent - 3)),
    };
    let labels = (range.end - range.start) as usize + 1;
    let title = if beside > 0 { "p99 latency" } else { "" };
    let mut panel = panel(area, [beside, 0], load, (range, title), labels, &name)?;
    let length = load.schedule.duration().as_secs_f64() / SLICES as f64;
    // Urgent classes are drawn last, and so above the others.
    for (points, colour) in lines.into_iter().zip([&FREE, &PAYING, &HEALTH]) {
        // Where none was served for a while is a gap in the line.
        for points in points.chunk_by(|a, b| b.0 - a.0 < 5.5 * length) {
            panel.draw_series(LineSeries::new(points.iter().copied(), colour.0.stroke_width(2)))?;
        }
    }
    name_phases(area, &panel, load)
}

/// Draws the outcome of the requests: areas one upon the other, which together are all that were due.
fn draw_outcomes<'a>(area: &Area<'a>, beside: i32, load: &Load, range: Range<f64>, slices: &[Slice]) -> Drawing<'a> {
    let title = if beside > 0 { "requests a second" } else { "" };
    let number = |rate: &f64| grouped(rate.round() as u64);
    let mut panel = panel(area, [beside, SECONDS], load, (range, title), 5, &number)?;
    let length = load.schedule.duration().as_secs_f64() / SLICES as f64;
    type Height = fn(&Slice) -> u64;
    let heights: [(&Colour, Height); 3] =
        [(&FAILED, |slice| slice.offered), (&SHED, |slice| slice.served + slice.shed), (&SERVED, |slice| slice.served)];
    for (colour, height) in heights {
        let point = |(number, slice)| (middle_of_slice(number, load), height(slice) as f64 / length);
        panel.draw_series(AreaSeries::new(slices.iter().enumerate().map(point), 0.0, colour.0))?;
    }
    Ok(())
}

/// Draws the frame of a panel with so much room at the left and below: its axes, and where the phases of the load begin.
fn panel<'a>(
    area: &Area<'a>,
    [beside, below]: [i32; 2],
    load: &Load,
    (y, title): (Range<f64>, &str),
    y_labels: usize,
    y_label: &dyn Fn(&f64) -> String,
) -> Drawing<'a, Panel<'a>> {
    let seconds = load.schedule.duration().as_secs_f64();
    let mut panel = ChartBuilder::on(area)
        .x_label_area_size(below)
        .y_label_area_size(beside)
        .build_cartesian_2d(0.0..seconds, y.clone())?;
    panel
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT.0)
        .axis_style(PALE.0)
        .x_labels(6)
        .y_labels(y_labels)
        .x_label_formatter(&|second| format!("{} s", (second * 10.0).round() / 10.0))
        .y_label_formatter(y_label)
        .label_style(font(12, &PALE))
        .axis_desc_style(font(12, &PALE))
        .x_desc(if below > 0 { "time since the start" } else { "" })
        .y_desc(title)
        .draw()?;
    let mut start = 0.0;
    for (_, share) in &Schedule::PHASES[..3] {
        start += share * seconds;
        let line = [(start, y.start), (start, y.end)];
        panel.draw_series(DashedLineSeries::new(line, 3, 4, PALE.0.mix(0.5).stroke_width(1)))?;
    }
    Ok(panel)
}

/// Writes the phases of the load above a panel.
fn name_phases<'a>(area: &Area<'a>, panel: &Panel<'a>, load: &Load) -> Drawing<'a> {
    let (left, top) = area.get_base_pixel();
    let mut start = 0.0;
    for (name, share) in Schedule::PHASES {
        let middle = (start + share / 2.0) * load.schedule.duration().as_secs_f64();
        let (x, y) = panel.backend_coord(&(middle, panel.y_range().end));
        let style = font(12, &PALE).pos(Pos::new(HPos::Center, VPos::Bottom));
        area.draw(&Text::new(name, (x - left, y - top - 4), style))?;
        start += share;
    }
    Ok(())
}

fn middle_of_slice(number: usize, load: &Load) -> f64 {
    load.schedule.duration().as_secs_f64() * (number as f64 + 0.5) / SLICES as f64
}

/// A font of this height in pixels; plotters draws it smaller than its size.
fn font(pixels: i32, colour: &Colour) -> TextStyle<'static> {
    ("system-ui, sans-serif", f64::from(pixels) * 1.24).into_font().color(&colour.0)
}

fn bold(pixels: i32) -> TextStyle<'static> {
    let TextStyle { font, color, pos } = font(pixels, &INK);
    TextStyle { font: font.style(FontStyle::Bold), color, pos }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::example;

    fn drawn(load: &Load, runs: &[Run]) -> anyhow::Result<String> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("chart.svg");
        write(&path, load, runs)?;
        Ok(std::fs::read_to_string(&path)?)
    }

    #[test]
    fn the_chart_names_the_runs_and_the_colours() -> anyhow::Result<()> {
        let (load, runs) = example::runs()?;
        let svg = drawn(&load, &runs)?;
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in
            ["without", "with: semaphore, queue, pool, mutex, cache", "health checks", "shed at once", "p99 latency"]
        {
            assert!(svg.lines().any(|line| line == text), "{text}");
        }
        assert_eq!(svg.matches("% served, 4 connections opened").count(), 2);
        Ok(())
    }

    #[test]
    fn every_colour_has_one_for_a_dark_page() -> anyhow::Result<()> {
        let (load, runs) = example::runs()?;
        let svg = drawn(&load, &runs)?;
        let (style, drawing) = svg.split_once("</style>").context("no style")?;
        for colour in drawing.split(['"']).filter(|value| value.starts_with('#')) {
            assert!(style.contains(&format!("[fill=\"{colour}\"]")), "{colour}");
        }
        Ok(())
    }

    #[test]
    fn the_chart_grows_with_the_runs_and_is_drawn_even_of_nothing() -> anyhow::Result<()> {
        let (load, mut runs) = example::runs()?;
        let height = |runs: &[Run]| -> anyhow::Result<i32> {
            let svg = drawn(&load, runs)?;
            let height = svg.split(" height=\"").nth(1).and_then(|rest| rest.split('"').next());
            Ok(height.context("no height")?.parse()?)
        };
        for _ in 0..2 {
            runs.append(&mut example::runs()?.1);
        }
        for (count, rows) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)] {
            assert_eq!(height(&runs[..count])?, TOP + rows * ROW, "{count}");
        }
        runs[0].outcome = Outcome::new(load.schedule.duration(), load.focus.clone())?;
        assert_eq!(height(&runs[..1])?, TOP + ROW);
        assert!(write(&std::env::temp_dir(), &load, &runs).is_err());
        Ok(())
    }
}
