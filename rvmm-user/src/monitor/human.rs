//! `human-monitor-command`: the commands of QEMU's monitor for people. Its answer is text; errors are text, too.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::arguments::Failure;
use super::commands::{numbered_key, version, write_screen, Context, Done};
use super::controls::RunState;
use super::picture::Format;
use crate::devices::ps2::keys::Key;

const HELP: &str = "\
c|cont  -- resume\r
help|?  -- this list\r
info registers|screen|status|version  -- show (the screen: a text mode's text)\r
mouse_button STATE  -- set the mouse's buttons (1 left, 2 middle, 4 right)\r
mouse_move DX DY [DZ]  -- move the mouse\r
q|quit  -- end the run\r
screendump FILENAME [-f ppm|png]  -- save the screen\r
sendkey KEYS [HOLD_MS]  -- send keys, as in 'sendkey ctrl-alt-f1'\r
s|stop  -- pause\r
system_powerdown  -- press the power button\r
system_reset  -- press the reset button\r
";

/// Executes a line.
pub fn execute(context: &Context, line: &str) -> Done {
    let mut event = None;
    let text = match run(context, line, &mut event) {
        Ok(text) => text,
        Err(failure) => format!("{}\r\n", failure.description),
    };
    Done { value: Value::String(text), event }
}

fn run(context: &Context, line: &str, event: &mut Option<&'static str>) -> Result<String, Failure> {
    let controls = &*context.controls;
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = Ok(String::new());
    match words.as_slice() {
        [] => done,
        ["help" | "?"] => Ok(HELP.into()),
        ["info", "registers"] => Ok(controls.registers()?.replace('\n', "\r\n") + "\r\n"),
        ["info", "screen"] => {
            let screen = controls.screen().ok_or_else(|| Failure::generic("this machine has no screen"))?;
            let text = screen.text().ok_or_else(|| Failure::generic("the screen is not in a text mode"))?;
            Ok((0..text.rows).map(|row| text.row(row) + "\r\n").collect())
        }
        ["info", "status"] => Ok(match controls.state() {
            RunState::Running => "VM status: running\r\n".into(),
            RunState::Paused => "VM status: paused\r\n".into(),
            RunState::Ended => "VM status: paused (shutdown)\r\n".into(),
        }),
        ["info", "version"] => {
            let version = version();
            Ok(format!("{}\r\n", version.get("package").and_then(Value::as_str).unwrap_or_default()))
        }
        ["stop" | "s"] => {
            if controls.state() == RunState::Running {
                *event = Some("STOP");
            }
            controls.pause()?;
            done
        }
        ["cont" | "c"] => {
            if controls.state() == RunState::Paused {
                *event = Some("RESUME");
            }
            controls.resume()?;
            done
        }
        ["system_reset"] => {
            controls.reset()?;
            *event = Some("RESET");
            done
        }
        ["system_powerdown"] => {
            controls.power_down()?;
            *event = Some("POWERDOWN");
            done
        }
        ["quit" | "q"] => {
            controls.quit();
            *event = Some("SHUTDOWN");
            done
        }
        ["sendkey", keys] => sendkey(context, keys, None).map(|()| String::new()),
        ["sendkey", keys, hold] => {
            let hold = number(hold)?;
            sendkey(context, keys, Some(Duration::from_millis(hold.unsigned_abs().into()))).map(|()| String::new())
        }
        ["screendump", path] => write_screen(controls, Path::new(path), Format::Ppm).map(|()| String::new()),
        ["screendump", path, "-f", format] | ["screendump", "-f", format, path] => {
            let format = Format::named(format).ok_or_else(|| Failure::generic("the format is ppm or png"))?;
            write_screen(controls, Path::new(path), format).map(|()| String::new())
        }
        ["mouse_move", dx, dy] => {
            controls.move_mouse(number(dx)?, number(dy)?.saturating_neg(), 0);
            done
        }
        ["mouse_move", dx, dy, dz] => {
            controls.move_mouse(number(dx)?, number(dy)?.saturating_neg(), number(dz)?);
            done
        }
        ["mouse_button", state] => {
            let state = number(state)?;
            // Here 2 is the middle button and 4 the right one.
            let bit = |from: i32, to: u8| if state & from != 0 { to } else { 0 };
            controls.set_buttons(bit(1, 1) | bit(4, 2) | bit(2, 4));
            done
        }
        [word, ..] => Err(Failure::generic(format!("unknown command: '{word}'"))),
    }
}

fn number(text: &str) -> Result<i32, Failure> {
    text.parse().map_err(|_| Failure::generic(format!("'{text}' is no number")))
}

/// Keys with dashes between them: names, or numbers as 0x1e.
fn sendkey(context: &Context, keys: &str, hold: Option<Duration>) -> Result<(), Failure> {
    let key = |name: &str| {
        let found = match name.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().and_then(numbered_key),
            // What people type for it, as in 'shift-<'.
            None if name == "<" => Key::named("less"),
            None => Key::named(name),
        };
        found.ok_or_else(|| Failure::generic(format!("invalid parameter: {name}")))
    };
    let keys = keys.split('-').map(key).collect::<Result<Vec<Key>, Failure>>()?;
    context.typist.combination(keys, hold)
}
