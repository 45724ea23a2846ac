//! A dimension as a picture: a panel for each of its series, on axes that all of them share and that are logarithmic both,
//! so that what grows in proportion is a straight line, and what does not grow lies flat.
//!
//! Colours are those of the other charts: no background, and lightness in the middle.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{Curve, Dimension};
use crate::chart::{Area, COLOURS, LINE, NORMAL, SMALL, STRONG, TEXT, TITLE, WIDTH, text};
use crate::table::{grouped, nanoseconds};
use crate::workspace::OURS;

const COLUMNS: usize = 2;
const HEAD: i32 = 84;
const PANEL_HEIGHT: i32 = 250;
/// Around the axes of a panel: for its title, for numbers, and for those of the neighbours.
const ABOVE: i32 = 44;
const BELOW: i32 = 30;
const LEFT: i32 = 68;
const RIGHT: i32 = 40;

const OURS_COLOUR: RGBColor = COLOURS[0];
const PEER_COLOUR: RGBColor = COLOURS[1];
const MODEL_COLOUR: RGBColor = COLOURS[2];

pub fn draw(dimension: &Dimension, curves: &[Curve]) -> Result<String> {
    let curves: Vec<&Curve> = curves.iter().filter(|curve| !curve.points.is_empty()).collect();
    let mut svg = String::new();
    let rows = curves.len().div_ceil(COLUMNS) as i32;
    {
        let size = (WIDTH, (HEAD + rows * PANEL_HEIGHT).cast_unsigned());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        head(&area, dimension)?;
        let numbers = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.n));
        let x = if few(dimension) { Axis::between(numbers) } else { Axis::around(numbers) };
        let times = |curve: &&Curve| {
            let theirs = curve.points.iter().filter_map(|point| Some(point.peer?.nanoseconds));
            curve.points.iter().map(|point| point.nanoseconds).chain(theirs).collect::<Vec<_>>()
        };
        let y = Axis::around(curves.iter().flat_map(times));
        for (index, curve) in curves.iter().enumerate() {
            let width = WIDTH.cast_signed() / COLUMNS as i32;
            let (column, row) = (index % COLUMNS, index / COLUMNS);
            let corner = (column as i32 * width, HEAD + row as i32 * PANEL_HEIGHT);
            let place = |axis: Axis, from, to| Scale { axis, from, to };
            let panel = Panel {
                area: &area,
                x: place(x, corner.0 + LEFT, corner.0 + width - RIGHT),
                y: place(y, corner.1 + PANEL_HEIGHT - BELOW, corner.1 + ABOVE),
            };
            panel.paint(dimension, curve)?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn head(area: &Area<'_>, dimension: &Dimension) -> Result<()> {
    let title = format!("How a cost grows with the number of {}", dimension.counted);
    text(area, &title, (12, 20), HPos::Left, (TITLE, STRONG, FontStyle::Bold))?;
    let (y, normal) = (52, (NORMAL, TEXT, FontStyle::Normal));
    area.draw(&Circle::new((18, y), 5, OURS_COLOUR.filled()))?;
    text(area, &format!("{OURS}, ns per operation"), (30, y), HPos::Left, normal)?;
    dashes(area, &[(236, y), (266, y)])?;
    text(area, "model", (274, y), HPos::Left, normal)?;
    area.draw(&Circle::new((350, y), 4, ShapeStyle::from(PEER_COLOUR).stroke_width(2)))?;
    text(area, "the peer that is named", (362, y), HPos::Left, normal)
}

/// Whether the numbers are so small that they are the marks themselves, instead of powers of ten.
fn few(dimension: &Dimension) -> bool {
    dimension.name == "threads"
}

/// Logarithmic, from one number to another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    /// Whether 0 has a place: one decade below the least of the others.
    zero: bool,
}

impl Axis {
    /// From the least to the greatest, of which none is 0.
    fn between(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.clone().fold(0.0, f64::max);
        if low < high { Self { low, high, zero: false } } else { Self::around(values) }
    }

    /// From a power of ten to another.
    fn around(values: impl Iterator<Item = f64> + Clone) -> Self {
        let zero = values.clone().any(|value| value == 0.0);
        let (mut low, mut high) = (f64::INFINITY, 0.0);
        for value in values.filter(|&value| value > 0.0) {
            low = f64::min(low, value);
            high = f64::max(high, value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let power = |value: f64| 10_f64.powf(value);
        // Hardly beyond a power is not beyond it.
        let (low, high) = (power((low.log10() + 0.01).floor()), power((high.log10() - 0.01).ceil()));
        Self { low: if zero { low / 10.0 } else { low }, high: f64::max(high, 10.0 * low), zero }
    }

    fn decades(self) -> impl Iterator<Item = f64> {
        let count = (self.high / self.low).log10().round() as i32;
        (0..=count).map(move |decade| self.low * 10_f64.powi(decade))
    }

    /// Between 0 and 1.
    fn share(self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        (value / self.low).ln() / (self.high / self.low).ln()
    }

    fn label(self, value: f64) -> String {
        if self.zero && value == self.low { "0".to_owned() } else { grouped(value) }
    }
}

#[derive(Clone, Copy)]
struct Scale {
    axis: Axis,
    from: i32,
    to: i32,
}

impl Scale {
    fn place(self, value: f64) -> i32 {
        self.from + (self.axis.share(value) * f64::from(self.to - self.from)).round() as i32
    }
}

struct Panel<'p, 'a> {
    area: &'p Area<'a>,
    x: Scale,
    y: Scale,
}

impl Panel<'_, '_> {
    fn paint(&self, dimension: &Dimension, curve: &Curve) -> Result<()> {
        let Self { area, x, y } = self;
        let title_y = y.to - ABOVE / 2 - 4;
        text(area, curve.title, (x.from, title_y), HPos::Left, (NORMAL, STRONG, FontStyle::Bold))?;
        let peer = format!("beside {}", curve.peer);
        text(area, &peer, (x.to, title_y), HPos::Right, (SMALL, PEER_COLOUR, FontStyle::Normal))?;
        self.grid(dimension, curve)?;

        let theirs: Vec<_> =
            curve.points.iter().filter_map(|point| Some(self.place(point.n, point.peer?.nanoseconds))).collect();
        let line = ShapeStyle::from(PEER_COLOUR.mix(0.6)).stroke_width(1);
        area.draw(&PathElement::new(theirs.clone(), line))?;
        for &place in &theirs {
            area.draw(&Circle::new(place, 4, ShapeStyle::from(PEER_COLOUR).stroke_width(2)))?;
        }
        if let (Some(fit), [first, .., last]) = (&curve.fit, &curve.points[..]) {
            dashes(area, &self.model(fit, first.n, last.n))?;
        }
        for point in &curve.points {
            area.draw(&Circle::new(self.place(point.n, point.nanoseconds), 5, OURS_COLOUR.filled()))?;
        }
        Ok(())
    }

    fn model(&self, fit: &super::Fit, first: f64, last: f64) -> Vec<(i32, i32)> {
        const STEPS: i32 = 120;

        let start = first.max(self.x.axis.low);
        let step = |step| start * (last / start).powf(f64::from(step) / f64::from(STEPS));
        let curved = (0..=STEPS).map(step).map(|n| self.place(n, fit.model.at(n)));
        // Numbers below 1 that stand for 0 on this axis would mislead the model.
        let zero = (first == 0.0).then(|| self.place(0.0, fit.model.at(0.0)));
        zero.into_iter().chain(curved.skip(usize::from(first == 0.0))).collect()
    }

    fn place(&self, n: f64, time: f64) -> (i32, i32) {
        (self.x.place(n), self.y.place(time))
    }

    fn grid(&self, dimension: &Dimension, curve: &Curve) -> Result<()> {
        let Self { area, x, y } = self;
        let small = (SMALL, TEXT, FontStyle::Normal);
        for mark in y.axis.decades() {
            let height = y.place(mark);
            area.draw(&PathElement::new([(x.from, height), (x.to, height)], LINE.mix(0.3)))?;
            text(area, &nanoseconds(mark).replace(".0", ""), (x.from - 8, height), HPos::Right, small)?;
        }
        let points = curve.points.iter().map(|point| point.n);
        let marks: Vec<f64> = if few(dimension) { points.collect() } else { x.axis.decades().collect() };
        for mark in marks {
            let place = x.place(mark);
            area.draw(&PathElement::new([(place, y.from), (place, y.to)], LINE.mix(0.15)))?;
            text(area, &x.axis.label(mark), (place, y.from + 14), HPos::Center, small)?;
        }
        Ok(())
    }
}

/// A dashed line, since the backend draws none along a path of many short steps.
fn dashes(area: &Area<'_>, path: &[(i32, i32)]) -> Result<()> {
    const DASH: f64 = 7.0;
    const GAP: f64 = 5.0;

    let style = ShapeStyle::from(MODEL_COLOUR).stroke_width(2);
    let mut walked = 0.0;
    let mut dash: Vec<(i32, i32)> = Vec::new();
    for pair in path.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (width, height) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let length = width.hypot(height);
        let steps = length.ceil().max(1.0);
        for step in 0..steps as i32 {
            let share = f64::from(step) / steps;
            let place = (from.0 + (share * width).round() as i32, from.1 + (share * height).round() as i32);
            if (walked + share * length) % (DASH + GAP) < DASH {
                dash.push(place);
            } else if !dash.is_empty() {
                area.draw(&PathElement::new(std::mem::take(&mut dash), style))?;
            }
        }
        walked += length;
    }
    if !dash.is_empty() {
        area.draw(&PathElement::new(dash, style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::{DIMENSIONS, Fit, Point, model};
    use crate::summary::{Peer, Ratio};

    fn curve(points: &[f64]) -> Curve {
        let ratio = Ratio { median: 2.0, min: 2.0, max: 2.0 };
        let points =
            points.iter().map(|&n| Point { n, nanoseconds: 50.0, peer: Some(Peer { nanoseconds: 100.0, ratio }) });
        let points: Vec<Point> = points.collect();
        let caches = crate::machine::Caches { l2: 1e6, l3: 1e7 };
        let fit = Fit::sum(&Curve::pairs(&points), &[model::Term::Always], caches);
        Curve { title: "a title", peer: "a peer", points, fit }
    }

    #[test]
    fn everything_is_in_the_picture_and_always_the_same() {
        let curves = [curve(&[0.0, 100.0, 10_000.0]), curve(&[]), curve(&[100.0])];
        let svg = draw(&DIMENSIONS[0], &curves).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["number of waiters", "stanchion, ns", "model", "a title", "beside a peer", ">\n0\n<", "10,000"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        // Two in the legend, and two for each point of the panels that are not empty.
        assert_eq!(svg.matches("<circle").count(), 2 + 2 * 4);
        assert_eq!(svg.matches("a title").count(), 2);
        assert_eq!(draw(&DIMENSIONS[0], &curves).unwrap(), svg);
    }

    #[test]
    fn an_axis_goes_from_power_to_power() {
        let axis = |values: &[f64]| Axis::around(values.iter().copied());
        assert_eq!(axis(&[12.0, 700.0]), Axis { low: 10.0, high: 1_000.0, zero: false });
        assert_eq!(axis(&[10.0, 1_000.0]), Axis { low: 10.0, high: 1_000.0, zero: false });
        assert_eq!(axis(&[0.0, 100.0, 1_000.0]), Axis { low: 10.0, high: 1_000.0, zero: true });
        assert_eq!(axis(&[50.0]), Axis { low: 10.0, high: 100.0, zero: false });
        assert_eq!(axis(&[1.0]), Axis { low: 1.0, high: 10.0, zero: false });
        assert_eq!(axis(&[]), Axis { low: 1.0, high: 10.0, zero: false });
        let between = |values: &[f64]| Axis::between(values.iter().copied());
        assert_eq!(between(&[2.0, 1.0, 16.0]), Axis { low: 1.0, high: 16.0, zero: false });
        assert_eq!(between(&[2.0]), axis(&[2.0]));
        assert_eq!(between(&[]), axis(&[]));
        assert_eq!(axis(&[12.0, 700.0]).decades().collect::<Vec<_>>(), [10.0, 100.0, 1_000.0]);
    }

    #[test]
    fn an_axis_is_logarithmic() {
        let scale = Scale { axis: Axis { low: 1.0, high: 1_000.0, zero: false }, from: 100, to: 400 };
        assert_eq!([0.0, 1.0, 10.0, 100.0, 1e3, 1e4].map(|value| scale.place(value)), [100, 100, 200, 300, 400, 400]);
        // Upwards is where pixels count down.
        let scale = Scale { from: 400, to: 100, ..scale };
        assert_eq!([1.0, 10.0].map(|value| scale.place(value)), [400, 300]);
    }
}
