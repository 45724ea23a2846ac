//! Ratios as a picture: a row for each work, a dot for each peer on a logarithmic axis, and a line at 1, where peer and
//! stanchion are equally fast. A thin line through a dot reaches from its lowest to its highest round.
//!
//! The picture has no background and only colours of middle lightness, so that it reads well on a white page and on a
//! dark one.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::summary::{Kind, Peer, Primitive, Ratio};
use crate::table::nanoseconds;
use crate::workspace::OURS;

pub const WIDTH: u32 = 1000;
/// Where the columns end or begin: the works' names, our times, and the axis.
const NAMES: i32 = 12;
const TIMES: i32 = 438;
const AXIS: (i32, i32) = (470, 960);

/// The first line of the legend, and the next.
const LEGEND: i32 = 72;
const LEGEND_LINE: i32 = 22;
/// From the last line of the legend to the rows.
const HEAD: i32 = 40;
const BOTTOM: i32 = 56;
const KIND_HEIGHT: i32 = 42;
/// Each peer has a lane of its own in a row, in the order of the legend: dots of equal ratio do not hide each other,
/// and nobody needs to tell colours apart.
const LANE_HEIGHT: i32 = 6;
const ROW_GAP: i32 = 9;

/// Font sizes as plotters counts them, five for four pixels.
pub const TITLE: i32 = 22;
const KIND: i32 = 17;
pub const NORMAL: i32 = 16;
pub const SMALL: i32 = 15;

pub const TEXT: RGBColor = RGBColor(117, 125, 135);
pub const STRONG: RGBColor = RGBColor(101, 125, 153);
pub const LINE: RGBColor = RGBColor(128, 136, 146);
const LOSS: RGBColor = RGBColor(214, 72, 72);
pub const COLOURS: [RGBColor; 8] = [
    RGBColor(56, 139, 253),
    RGBColor(224, 122, 47),
    RGBColor(46, 160, 87),
    RGBColor(219, 97, 162),
    RGBColor(150, 105, 230),
    RGBColor(184, 146, 20),
    RGBColor(20, 160, 170),
    RGBColor(150, 110, 85),
];

/// The candidates for the ends and the marks of the axis.
const MARKS: [f64; 17] =
    [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 1_000.0];

/// Those that go without a label where there is no room for all.
const MINOR: [f64; 3] = [0.7, 1.5, 7.0];

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture as SVG. A peer has the same colour in all pictures that are given the same `palette` of names, as far as
/// there are enough colours.
pub fn draw(primitive: &Primitive, palette: &[&str]) -> Result<String> {
    let mut svg = String::new();
    let height = top(primitive) + primitive.kinds.iter().map(|kind| height_of(kind, primitive)).sum::<i32>() + BOTTOM;
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height.cast_unsigned())).into_drawing_area();
        paint(&area, primitive, &colours(primitive, palette), height - BOTTOM)?;
        area.present()?;
    }
    Ok(svg)
}

fn paint(area: &Area<'_>, primitive: &Primitive, colours: &[RGBColor], bottom: i32) -> Result<()> {
    let axis = Axis::around(primitive);
    let top = top(primitive);
    title(area, primitive)?;
    legend(area, &primitive.peers, colours)?;
    axis.paint(area, top, bottom)?;
    text(area, &format!("{OURS}, ns"), (TIMES, top - 14), HPos::Right, (SMALL, TEXT, FontStyle::Normal))?;

    let mut y = top;
    for kind in &primitive.kinds {
        text(area, &kind.name, (NAMES, y + KIND_HEIGHT - 14), HPos::Left, (KIND, STRONG, FontStyle::Bold))?;
        y += KIND_HEIGHT;
        for work in &kind.works {
            let row = row_height(primitive);
            let middle = y + row / 2;
            area.draw(&PathElement::new([(NAMES, y), (AXIS.1, y)], LINE.mix(0.2)))?;
            text(area, &work.name, (NAMES + 14, middle), HPos::Left, (NORMAL, TEXT, FontStyle::Normal))?;
            let time = nanoseconds(work.nanoseconds);
            text(area, &time, (TIMES, middle), HPos::Right, (NORMAL, TEXT, FontStyle::Normal))?;
            for (lane, peer) in work.peers.iter().enumerate() {
                if let Some(peer) = peer {
                    dot(area, &axis, peer, colours[lane], y + ROW_GAP / 2 + lane_middle(lane))?;
                }
            }
            y += row;
        }
    }
    Ok(())
}

fn title(area: &Area<'_>, primitive: &Primitive) -> Result<()> {
    let title = format!("{}: how many times as fast as its peers", primitive.name);
    text(area, &title, (NAMES, 20), HPos::Left, (TITLE, STRONG, FontStyle::Bold))?;
    let spread = match primitive.rounds {
        0 | 1 => "one round".to_owned(),
        rounds => format!("median of {rounds} paired rounds, line: lowest to highest"),
    };
    let subtitle = format!("peer's time / {OURS}'s time; {spread}");
    text(area, &subtitle, (NAMES, 45), HPos::Left, (NORMAL, TEXT, FontStyle::Normal))
}

fn legend(area: &Area<'_>, peers: &[String], colours: &[RGBColor]) -> Result<()> {
    for ((peer, (x, y)), colour) in peers.iter().zip(legend_places(peers)).zip(colours) {
        area.draw(&Circle::new((x, y), 5, colour.filled()))?;
        text(area, peer, (x + 12, y), HPos::Left, (NORMAL, TEXT, FontStyle::Normal))?;
    }
    Ok(())
}

/// Where the dots of the legend are: in as many lines as it takes.
fn legend_places(peers: &[String]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (NAMES + 6, LEGEND);
    let place = |peer: &String| {
        // Without fonts at hand the width of a name is a guess, made large enough for wide ones.
        let width = 12 + 7 * peer.len() as i32 + 28;
        if x > NAMES + 6 && x + width > WIDTH.cast_signed() {
            (x, y) = (NAMES + 6, y + LEGEND_LINE);
        }
        x += width;
        (x - width, y)
    };
    peers.iter().map(place).collect()
}

/// Where the rows begin.
fn top(primitive: &Primitive) -> i32 {
    legend_places(&primitive.peers).last().map_or(LEGEND, |(_, y)| *y) + HEAD
}

fn dot(area: &Area<'_>, axis: &Axis, peer: &Peer, colour: RGBColor, y: i32) -> Result<()> {
    let Ratio { median, min, max } = peer.ratio;
    let line = ShapeStyle::from(colour.mix(0.75)).stroke_width(2);
    area.draw(&PathElement::new([(axis.x(min), y), (axis.x(max), y)], line))?;
    area.draw(&Circle::new((axis.x(median), y), 4, colour.filled()))?;
    Ok(())
}

/// The logarithmic axis, from one mark to another.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Wide enough for every round of every peer, and for the neighbourhood of 1.
    fn around(primitive: &Primitive) -> Self {
        let works = primitive.kinds.iter().flat_map(|kind| &kind.works);
        let (mut low, mut high) = (0.75, 2.0);
        for peer in works.flat_map(|work| &work.peers).flatten() {
            low = f64::min(low, peer.ratio.min);
            high = f64::max(high, peer.ratio.max);
        }
        let [first, .., last] = MARKS;
        Self {
            low: MARKS.into_iter().rfind(|&mark| mark <= low).unwrap_or(first),
            high: MARKS.into_iter().find(|&mark| mark >= high).unwrap_or(last),
        }
    }

    /// Where a ratio stands; one beyond the ends, at the end.
    fn x(&self, ratio: f64) -> i32 {
        let share = (ratio.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        AXIS.0 + (share * f64::from(AXIS.1 - AXIS.0)).round() as i32
    }

    fn paint(&self, area: &Area<'_>, top: i32, bottom: i32) -> Result<()> {
        let one = self.x(1.0);
        let crowded = self.x(2.0) - self.x(1.5) < 36;
        area.draw(&Rectangle::new([(AXIS.0, top), (one, bottom)], LOSS.mix(0.09).filled()))?;
        for mark in MARKS.into_iter().filter(|&mark| mark >= self.low && mark <= self.high) {
            let x = self.x(mark);
            area.draw(&PathElement::new([(x, top), (x, bottom)], LINE.mix(0.25)))?;
            if crowded && MINOR.contains(&mark) {
                continue;
            }
            for y in [top - 14, bottom + 14] {
                text(area, &format!("{mark}×"), (x, y), HPos::Center, (SMALL, TEXT, FontStyle::Normal))?;
            }
        }
        let line = ShapeStyle::from(LINE).stroke_width(2);
        area.draw(&PathElement::new([(one, top), (one, bottom)], line))?;
        let y = bottom + 36;
        text(area, "peer faster", (one - 8, y), HPos::Right, (SMALL, LOSS, FontStyle::Normal))?;
        text(area, &format!("{OURS} faster"), (one + 8, y), HPos::Left, (SMALL, TEXT, FontStyle::Normal))
    }
}

pub fn text(area: &Area<'_>, text: &str, at: (i32, i32), to: HPos, style: (i32, RGBColor, FontStyle)) -> Result<()> {
    let (size, colour, weight) = style;
    let style = ("sans-serif", size, weight).into_text_style(area).color(&colour).pos(Pos::new(to, VPos::Center));
    area.draw(&Text::new(text, at, style))?;
    Ok(())
}

/// The colours of the primitive's peers, in their order: that of the peer's place in the palette, or the next that
/// nobody else in the picture has.
fn colours(primitive: &Primitive, palette: &[&str]) -> Vec<RGBColor> {
    let mut taken = [false; COLOURS.len()];
    let colour = |peer: &String| {
        let place = palette.iter().position(|name| name == peer).unwrap_or(0);
        let mut candidates = (0..COLOURS.len()).map(|next| (place + next) % COLOURS.len());
        let index = candidates.find(|&index| !taken[index]).unwrap_or(place % COLOURS.len());
        taken[index] = true;
        COLOURS[index]
    };
    primitive.peers.iter().map(colour).collect()
}

fn lane_middle(lane: usize) -> i32 {
    lane as i32 * LANE_HEIGHT + LANE_HEIGHT / 2
}

fn row_height(primitive: &Primitive) -> i32 {
    primitive.peers.len() as i32 * LANE_HEIGHT + ROW_GAP
}

fn height_of(kind: &Kind, primitive: &Primitive) -> i32 {
    KIND_HEIGHT + kind.works.len() as i32 * row_height(primitive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::examples;

    #[test]
    fn everything_is_in_the_picture() {
        let svg = draw(&examples::mutex(), &["mea", "tokio"]).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["mutex: how many times", "free", "lock", "hand-off", "12,346", "mea", "tokio", "1×", "peer faster"]
        {
            assert!(svg.contains(text), "{text} is missing");
        }
        // Two in the legend, two for the lock, and one for the hand-off that mea cannot do.
        assert_eq!(svg.matches("<circle").count(), 5);
    }

    #[test]
    fn a_peer_keeps_its_colour() {
        let [first, second, third, ..] = COLOURS;
        assert_eq!(colours(&examples::mutex(), &["mea", "tokio"]), [first, second]);
        assert_eq!(colours(&examples::mutex(), &["futures", "mea", "tokio"]), [second, third]);
    }

    #[test]
    fn no_two_peers_share_a_colour_while_there_are_enough() {
        let names: Vec<String> = (0..=COLOURS.len()).map(|number| format!("peer {number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let [first, second, ..] = COLOURS;
        let mut mutex = examples::mutex();
        // One turn of the colours apart.
        mutex.peers = vec![names[0].to_owned(), names[COLOURS.len()].to_owned()];
        assert_eq!(colours(&mutex, &names), [first, second]);
        mutex.peers = names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(colours(&mutex, &names)[..COLOURS.len()], COLOURS);
    }

    #[test]
    fn a_long_legend_takes_more_lines() {
        let names = |count| vec!["x".repeat(20); count];
        let lines = |count| legend_places(&names(count)).into_iter().map(|(_, y)| (y - LEGEND) / LEGEND_LINE);
        assert!(lines(5).eq([0; 5]));
        assert!(lines(7).eq([0, 0, 0, 0, 0, 1, 1]));
        assert!(legend_places(&names(12)).iter().all(|&(x, _)| x < WIDTH.cast_signed() - 180));
        let mut mutex = examples::mutex();
        let before = top(&mutex);
        mutex.peers = names(7);
        assert_eq!(top(&mutex), before + LEGEND_LINE);
    }

    #[test]
    fn the_axis_ends_at_marks_and_is_logarithmic() {
        let axis = Axis::around(&examples::mutex());
        assert_eq!((axis.low, axis.high), (0.7, 3.0));
        assert_eq!((axis.x(0.7), axis.x(3.0)), AXIS);
        assert_eq!((axis.x(0.001), axis.x(1e9)), AXIS);
        let (one, two) = (axis.x(1.0), axis.x(2.0));
        assert!((axis.x(1.5) - axis.x(0.75) - (two - one)).abs() <= 1);
    }
}
