//! The guest's screen as a terminal's cells.

use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::{buffer::Buffer, Frame};

use crate::devices::vga::{cp437, Image, Screen, TextScreen};

/// Draws the screen, and `message` in the last line.
pub fn draw(frame: &mut Frame<'_>, screen: Option<&Screen>, message: Option<String>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    match screen.map(|screen| (screen, screen.text())) {
        None => note(buffer, area, "this machine has no screen"),
        Some((_, Some(text))) => {
            let cursor = draw_text(buffer, area, &text);
            if let Some(position) = cursor {
                frame.set_cursor_position(position);
            }
        }
        Some((screen, None)) => draw_image(buffer, area, &screen.render()),
    }
    if let Some(message) = message {
        note(frame.buffer_mut(), area, &message);
    }
}

fn note(buffer: &mut Buffer, area: Rect, text: &str) {
    let style = Style::new().add_modifier(Modifier::REVERSED);
    buffer.set_stringn(area.x, area.bottom().saturating_sub(1), text, area.width.into(), style);
}

/// Draws text; returns where the cursor is. A screen that is larger than the terminal is cut off, at the top: what is new is at the bottom.
fn draw_text(buffer: &mut Buffer, area: Rect, text: &TextScreen) -> Option<(u16, u16)> {
    let hidden = text.rows.saturating_sub(area.height.into());
    let mut cells = text.cells.chunks(text.columns.max(1) as usize).skip(hidden as usize);
    for y in area.y..area.bottom() {
        let Some(row) = cells.next() else { break };
        for (x, cell) in (area.x..area.right()).zip(row) {
            let Some(target) = buffer.cell_mut((x, y)) else { continue };
            target.set_char(cp437::to_char(cell.character));
            let mut style = Style::new().fg(rgb(cell.foreground)).bg(rgb(cell.background));
            if cell.blinks {
                style = style.add_modifier(Modifier::SLOW_BLINK);
            }
            target.set_style(style);
        }
    }
    let (column, row) = text.cursor?;
    let (column, row) = (u16::try_from(column).ok()?, u16::try_from(row.checked_sub(hidden)?).ok()?);
    (column < area.width && row < area.height).then_some((area.x + column, area.y + row))
}

/// Draws a picture as coarse as the terminal is: each cell is two pixels, one above the other.
fn draw_image(buffer: &mut Buffer, area: Rect, image: &Image) {
    let (columns, rows) = (u32::from(area.width), u32::from(area.height) * 2);
    let at = |column: u16, row: u32| {
        // The middle of the part of the picture that the half cell stands for.
        let x = (u32::from(column) * 2 + 1) * image.width / (columns * 2).max(1);
        let y = (row * 2 + 1) * image.height / (rows * 2).max(1);
        rgb(image.pixel(x, y))
    };
    for row in 0..area.height {
        for column in 0..area.width {
            let style = Style::new().fg(at(column, u32::from(row) * 2)).bg(at(column, u32::from(row) * 2 + 1));
            if let Some(cell) = buffer.cell_mut((area.x + column, area.y + row)) {
                cell.set_char('▀').set_style(style);
            }
        }
    }
}

fn rgb([red, green, blue]: [u8; 3]) -> Color {
    Color::Rgb(red, green, blue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::soft::SoftRun;
    use crate::monitor::Controls;
    use ratatui::{backend::TestBackend, Terminal};

    fn shown(run: &SoftRun, size: (u16, u16), message: Option<&str>) -> (Buffer, ratatui::layout::Position) {
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        let screen = run.screen();
        terminal.draw(|frame| draw(frame, screen.as_ref(), message.map(String::from))).unwrap();
        let cursor = terminal.get_cursor_position().unwrap();
        (terminal.backend().buffer().clone(), cursor)
    }

    #[test]
    fn text_is_shown_with_its_colours_and_cursor() {
        let run = SoftRun::new();
        let mut vga = run.vga.lock().unwrap();
        vga.memory_write(0x18000, b"H\x1Fi\x1F");
        vga.port_write(0x24, 0x0F);
        vga.port_write(0x25, 2);
        drop(vga);
        let (buffer, cursor) = shown(&run, (80, 25), None);
        assert_eq!(buffer[(0, 0)].symbol(), "H");
        assert_eq!(buffer[(1, 0)].bg, Color::Rgb(0, 0, 0xAA));
        assert_eq!((cursor.x, cursor.y), (2, 0));
    }

    #[test]
    fn a_small_terminal_shows_the_end_of_the_screen() {
        let run = SoftRun::new();
        run.vga.lock().unwrap().memory_write(0x18000 + 24 * 160, b"$\x07");
        let (buffer, _) = shown(&run, (40, 10), None);
        assert_eq!(buffer[(0, 9)].symbol(), "$");
        let (buffer, _) = shown(&run, (40, 10), Some("help"));
        assert_eq!(buffer[(3, 9)].symbol(), "p");
        shown(&run, (1, 1), Some("help"));
    }

    #[test]
    fn graphics_are_shown_coarsely() {
        let run = SoftRun::new();
        let mut vga = run.vga.lock().unwrap();
        for (index, value) in [(1, 640u16), (2, 480), (3, 32), (4, 0x41)] {
            vga.dispi_write(0, index);
            vga.dispi_write(1, value);
        }
        vga.memory_write(0, &[0, 0, 0xFF, 0].repeat(16384));
        drop(vga);
        let (buffer, _) = shown(&run, (80, 25), None);
        assert_eq!(buffer[(0, 0)].fg, Color::Rgb(0xFF, 0, 0));
        assert_eq!(buffer[(0, 24)].fg, Color::Rgb(0, 0, 0));
    }
}
