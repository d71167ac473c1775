//! The commands.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};

use super::arguments::{wrong_type, Arguments, Failure};
use super::controls::{Controls, Refused, RunState};
use super::human;
use super::picture::{encode, Format};
use super::typist::{press, Typist};
use crate::devices::ps2::keys::Key;
use crate::devices::ps2::mouse;

/// What commands work on.
#[derive(Clone)]
pub struct Context {
    pub controls: Arc<dyn Controls>,
    pub typist: Typist,
}

/// All commands but `qmp_capabilities`.
pub const NAMES: [&str; 15] = [
    "cont",
    "human-monitor-command",
    "input-send-event",
    "memsave",
    "pmemsave",
    "query-commands",
    "query-name",
    "query-status",
    "query-version",
    "quit",
    "screendump",
    "send-key",
    "stop",
    "system_powerdown",
    "system_reset",
];

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Its answer.
    pub value: Value,
    /// The event that every client is told.
    pub event: Option<&'static str>,
}

impl From<Value> for Done {
    fn from(value: Value) -> Done {
        Done { value, event: None }
    }
}

/// Executes a command.
pub fn execute(context: &Context, command: &str, mut arguments: Arguments) -> Result<Done, Failure> {
    let controls = &*context.controls;
    let event = |event| Done { value: json!({}), event: Some(event) };
    // Commands without arguments look at them first: nothing is done before they are known to be right.
    match command {
        "screendump" => return screendump(controls, arguments).map(Done::from),
        "send-key" => return send_key(context, arguments).map(Done::from),
        "input-send-event" => return input_send_event(controls, arguments).map(Done::from),
        "memsave" => {
            arguments.optional_number("cpu-index")?;
            return save(arguments, |address, data| controls.read_linear(address, data)).map(Done::from);
        }
        "pmemsave" => return save(arguments, |address, data| controls.read_physical(address, data)).map(Done::from),
        "human-monitor-command" => {
            let line = arguments.text("command-line")?;
            arguments.optional_number("cpu-index")?;
            arguments.finish()?;
            return Ok(human::execute(context, &line));
        }
        known if NAMES.contains(&known) => arguments.finish()?,
        other => return Err(Failure::not_found(format!("The command {other} has not been found"))),
    }
    Ok(match command {
        "query-status" => status(controls).into(),
        "query-version" => version().into(),
        "query-name" => json!({}).into(),
        "query-commands" => {
            let names = NAMES.iter().chain(&["qmp_capabilities"]);
            Value::Array(names.map(|name| json!({ "name": name })).collect()).into()
        }
        "stop" => {
            let was_running = controls.state() == RunState::Running;
            controls.pause()?;
            Done { value: json!({}), event: was_running.then_some("STOP") }
        }
        "cont" => {
            let was_paused = controls.state() == RunState::Paused;
            controls.resume()?;
            Done { value: json!({}), event: was_paused.then_some("RESUME") }
        }
        "system_reset" => {
            controls.reset()?;
            event("RESET")
        }
        "system_powerdown" => {
            controls.power_down()?;
            event("POWERDOWN")
        }
        "quit" => {
            controls.quit();
            event("SHUTDOWN")
        }
        other => return Err(Failure::not_found(format!("The command {other} has not been found"))),
    })
}

/// `query-status`'s answer.
pub fn status(controls: &dyn Controls) -> Value {
    let (running, status) = match controls.state() {
        RunState::Running => (true, "running"),
        RunState::Paused => (false, "paused"),
        RunState::Ended => (false, "shutdown"),
    };
    json!({ "running": running, "status": status })
}

/// `query-version`'s answer. Clients look for `qemu`: this is the version of the protocol's command set that is followed.
pub fn version() -> Value {
    json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": concat!("rvmm ", env!("CARGO_PKG_VERSION")) })
}

fn screendump(controls: &dyn Controls, mut arguments: Arguments) -> Result<Value, Failure> {
    let path = arguments.text("filename")?;
    let format = match arguments.optional_text("format")? {
        None => Format::Ppm,
        Some(name) => Format::named(&name)
            .ok_or_else(|| Failure::generic(format!("Parameter 'format' does not accept value '{name}'")))?,
    };
    if arguments.optional_text("device")?.is_some() || arguments.optional_number("head")?.unwrap_or(0) != 0 {
        return Err(Failure::generic("there is one screen only; leave out device and head"));
    }
    arguments.finish()?;
    write_screen(controls, Path::new(&path), format)?;
    Ok(json!({}))
}

/// Writes the screen's picture to a file.
pub fn write_screen(controls: &dyn Controls, path: &Path, format: Format) -> Result<(), Failure> {
    let screen = controls.screen().ok_or_else(|| Failure::generic("this machine has no screen"))?;
    let file = encode(&screen.render(), format).map_err(|error| Failure::generic(format!("no picture: {error}")))?;
    std::fs::write(path, file)
        .map_err(|error| Failure::generic(format!("failed to write file '{}': {error}", path.display())))
}

fn send_key(context: &Context, mut arguments: Arguments) -> Result<Value, Failure> {
    let keys = arguments.list("keys")?.into_iter().map(key_value).collect::<Result<Vec<Key>, Failure>>()?;
    let hold = arguments.optional_number("hold-time")?.map(Duration::from_millis);
    arguments.finish()?;
    context.typist.combination(keys, hold)?;
    Ok(json!({}))
}

/// A key as QMP writes it: `{"type": "qcode", "data": "a"}` or `{"type": "number", "data": 30}`.
fn key_value(value: Value) -> Result<Key, Failure> {
    let mut parts = Arguments::of(Some(value), "keys")?;
    let key = match parts.text("type")?.as_str() {
        "qcode" => {
            let name = parts.text("data")?;
            Key::named(&name)
                .ok_or_else(|| Failure::generic(format!("Parameter 'data' does not accept value '{name}'")))?
        }
        "number" => {
            let number = parts.number("data")?;
            numbered_key(number).ok_or_else(|| Failure::generic(format!("there is no key with the number {number}")))?
        }
        other => return Err(Failure::generic(format!("Parameter 'type' does not accept value '{other}'"))),
    };
    parts.finish()?;
    Ok(key)
}

/// A key by its code in set 1, with bit 7 for E0, as QEMU numbers them.
pub fn numbered_key(number: u64) -> Option<Key> {
    let number = u8::try_from(number).ok()?;
    Key::with_set1(u16::from(number & 0x7F) | if number & 0x80 != 0 { 0xE000 } else { 0 })
}

/// One of `input-send-event`'s events.
enum Input {
    Key(Key, bool),
    Button(u8, bool),
    Move(i32, i32, i32),
}

fn input_send_event(controls: &dyn Controls, mut arguments: Arguments) -> Result<Value, Failure> {
    arguments.optional_text("device")?;
    arguments.optional_number("head")?;
    let events = arguments.list("events")?.into_iter().map(input_event).collect::<Result<Vec<Input>, Failure>>()?;
    arguments.finish()?;
    let mut buttons = 0;
    for event in events {
        match event {
            Input::Key(key, down) => press(controls, key, down),
            Input::Move(right, up, wheel) => controls.move_mouse(right, up, wheel),
            Input::Button(button, down) => {
                buttons = if down { buttons | button } else { buttons & !button };
                controls.set_buttons(buttons);
            }
        }
    }
    Ok(json!({}))
}

fn input_event(value: Value) -> Result<Input, Failure> {
    let mut event = Arguments::of(Some(value), "events")?;
    let kind = event.text("type")?;
    let mut data = Arguments::of(Some(event.required("data")?), "data")?;
    event.finish()?;
    let input = match kind.as_str() {
        "key" => Input::Key(key_value(data.required("key")?)?, data.flag("down")?),
        "rel" => {
            let value = data.required("value")?;
            let value = value.as_i64().ok_or_else(|| wrong_type("value", "integer"))?;
            let counts = value.clamp(-0x8000, 0x8000) as i32;
            match data.text("axis")?.as_str() {
                "x" => Input::Move(counts, 0, 0),
                // QEMU's y goes down, the mouse's goes up.
                "y" => Input::Move(0, -counts, 0),
                other => return Err(Failure::generic(format!("Parameter 'axis' does not accept value '{other}'"))),
            }
        }
        "btn" => {
            let down = data.flag("down")?;
            match data.text("button")?.as_str() {
                "left" => Input::Button(mouse::LEFT, down),
                "right" => Input::Button(mouse::RIGHT, down),
                "middle" => Input::Button(mouse::MIDDLE, down),
                "side" => Input::Button(mouse::SIDE, down),
                "extra" => Input::Button(mouse::EXTRA, down),
                // The wheel's buttons are a step when they are pressed.
                "wheel-up" => Input::Move(0, 0, -i32::from(down)),
                "wheel-down" => Input::Move(0, 0, i32::from(down)),
                other => return Err(Failure::generic(format!("Parameter 'button' does not accept value '{other}'"))),
            }
        }
        other => return Err(Failure::generic(format!("no device takes input events of type '{other}'"))),
    };
    data.finish()?;
    Ok(input)
}

fn save(mut arguments: Arguments, read: impl Fn(u64, &mut [u8]) -> Result<(), Refused>) -> Result<Value, Failure> {
    const PART: u64 = 1 << 20;
    let (start, size) = (arguments.number("val")?, arguments.number("size")?);
    let path = arguments.text("filename")?;
    arguments.finish()?;
    let failed = |error| Failure::generic(format!("failed to write file '{path}': {error}"));
    let mut file = File::create(&path).map_err(failed)?;
    let mut done = 0;
    while done < size {
        let mut part = vec![0; (size - done).min(PART) as usize];
        let address = start.checked_add(done).ok_or_else(|| Failure::generic("the range goes beyond all addresses"))?;
        read(address, &mut part)?;
        file.write_all(&part).map_err(failed)?;
        done += part.len() as u64;
    }
    Ok(json!({}))
}
