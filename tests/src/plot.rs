//! A plot of a few lines over time, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
/// Room for labels at the left and below.
const LEFT: f64 = 70.0;
const BELOW: f64 = 40.0;
/// Room above, and for the legend at the right.
const ABOVE: f64 = 30.0;
const RIGHT: f64 = 130.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#555555"];
/// Marks on each axis.
const TICKS: u32 = 5;

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// Points, ascending by the first coordinate; none is negative.
    pub points: Vec<(f64, f64)>,
}

/// The plot of `lines`; both axes begin at 0.
#[must_use]
pub fn svg(title: &str, across: &str, up: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let across_max = points().map(|point| point.0).fold(1.0, f64::max);
    let up_max = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - ABOVE - BELOW);
    let x = |value: f64| LEFT + value / across_max * wide;
    let y = |value: f64| ABOVE + high - value / up_max * high;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{title}</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">{across}</text>\n\
         <text x=\"4\" y=\"{}\">{up}</text>\n",
        HEIGHT - 6.0,
        ABOVE - 4.0,
    );
    let mut add = |line: String| {
        writeln!(text, "{line}").expect("a String takes everything");
    };
    for tick in 0..=TICKS {
        let part = f64::from(tick) / f64::from(TICKS);
        let (right, value) = (x(part * across_max), part * up_max);
        add(format!(
            "<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
            ABOVE + high + 14.0,
            part * across_max
        ));
        add(format!(
            "<path d=\"M{LEFT} {0:.1}H{1:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{2:.1}\" y=\"{0:.1}\" text-anchor=\"end\">{value:.0}</text>",
            y(value),
            LEFT + wide,
            LEFT - 6.0
        ));
    }
    for (place, line) in lines.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let points: Vec<String> =
            line.points.iter().map(|(at, up)| format!("{:.1},{:.1}", x(*at), y(*up))).collect();
        add(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        ));
        let below = ABOVE + 14.0 * (place as f64 + 1.0);
        add(format!(
            "<text x=\"{:.1}\" y=\"{below:.1}\" fill=\"{colour}\">{}</text>",
            LEFT + wide + 8.0,
            line.name
        ));
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: points are where the axes say, and nothing is outside of the picture.
    #[test]
    fn points_are_inside() {
        let line = Line { name: "one".to_owned(), points: vec![(0.0, 0.0), (60.0, 100.0)] };
        let text = svg("title", "seconds", "MB", &[line]);
        let (bottom, right) = (ABOVE + HEIGHT - ABOVE - BELOW, WIDTH - RIGHT);
        let top = ABOVE + (HEIGHT - ABOVE - BELOW) * (1.0 - 1.0 / 1.05);
        let expected = format!("points=\"{LEFT:.1},{bottom:.1} {right:.1},{top:.1}\"");
        assert!(text.contains(&expected), "{expected} in {text}");
    }
}
