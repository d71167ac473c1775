use std::sync::Arc;

use proptest::prelude::*;

use super::super::soft::SoftRun;
use super::super::typist::Typist;
use super::*;

fn context() -> (Arc<SoftRun>, Context) {
    let run = SoftRun::new();
    let controls: Arc<dyn super::super::Controls> = run.clone();
    (run, Context { typist: Typist::start(Arc::clone(&controls)).unwrap(), controls })
}

/// A session that has negotiated.
fn negotiated(context: &Context) -> Session {
    let mut session = Session::default();
    assert_eq!(
        session.receive(context, b"{\"execute\":\"qmp_capabilities\"}"),
        [Message::Answer(json!({"return": {}}))]
    );
    session
}

fn one(context: &Context, request: Value) -> Value {
    match negotiated(context).receive(context, request.to_string().as_bytes()).as_slice() {
        [Message::Answer(value), ..] => value.clone(),
        other => panic!("{other:?}"),
    }
}

fn description(answer: &Value) -> &str {
    answer["error"]["desc"].as_str().unwrap()
}

#[test]
fn negotiation_comes_first_and_once() {
    let (_, context) = context();
    let mut session = Session::default();
    let refused = session.receive(&context, br#"{"execute": "query-status", "id": 7}"#);
    let [Message::Answer(refused)] = refused.as_slice() else { panic!() };
    assert_eq!((refused["error"]["class"].as_str(), &refused["id"]), (Some("CommandNotFound"), &json!(7)));
    let again = one(&context, json!({"execute": "qmp_capabilities"}));
    assert_eq!(again["error"]["class"], "CommandNotFound");
}

#[test]
fn requests_may_come_in_pieces_or_together() {
    let (_, context) = context();
    let mut session = negotiated(&context);
    assert_eq!(session.receive(&context, br#"{"execute": "que"#), []);
    let running = Message::Answer(json!({"return": {"running": true, "status": "running"}}));
    assert_eq!(session.receive(&context, br#"ry-status"} {"execute": "query-status"}"#), [running.clone(), running]);
}

#[test]
fn errors_are_qmp_s() {
    let (_, context) = context();
    let mut session = negotiated(&context);
    let messages = session.receive(&context, b"nonsense\n{\"execute\": \"query-name\"}\n");
    let [Message::Answer(bad), Message::Answer(good)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(description(bad), "Invalid JSON syntax");
    assert_eq!(good, &json!({"return": {}}));
    for (request, expected) in [
        (json!([1]), "QMP input must be a JSON object"),
        (json!({}), "QMP input lacks member 'execute'"),
        (json!({"execute": 1}), "QMP input member 'execute' must be a string"),
        (json!({"execute": "stop", "arguments": 1}), "QMP input member 'arguments' must be an object"),
        (json!({"execute": "fly"}), "The command fly has not been found"),
        (json!({"execute": "stop", "arguments": {"x": 1}}), "Parameter 'x' is unexpected"),
        (json!({"execute": "send-key"}), "Parameter 'keys' is missing"),
        (
            json!({"execute": "send-key", "arguments": {"keys": 1}}),
            "Invalid parameter type for 'keys', expected: array",
        ),
        (json!({"execute": "system_powerdown"}), "there is no power button"),
    ] {
        assert_eq!(description(&one(&context, request.clone())), expected, "{request}");
    }
}

#[test]
fn the_run_is_stopped_and_continued_with_events() {
    let (_, context) = context();
    let mut session = negotiated(&context);
    let done = Message::Answer(json!({"return": {}}));
    assert_eq!(session.receive(&context, br#"{"execute":"stop"}"#), [done.clone(), Message::Event("STOP")]);
    assert_eq!(session.receive(&context, br#"{"execute":"stop"}"#), std::slice::from_ref(&done));
    assert_eq!(session.receive(&context, br#"{"execute":"cont"}"#), [done.clone(), Message::Event("RESUME")]);
    assert_eq!(session.receive(&context, br#"{"execute":"quit"}"#), [done, Message::Event("SHUTDOWN")]);
    assert_eq!(one(&context, json!({"execute": "query-status"}))["return"]["status"], "shutdown");
}

#[test]
fn keys_are_pressed_together_and_released_backwards() {
    let (run, context) = context();
    let keys = json!([{"type": "qcode", "data": "ctrl"}, {"type": "number", "data": 0x1E}]);
    let answer = one(&context, json!({"execute": "send-key", "arguments": {"keys": keys, "hold-time": 1}}));
    assert_eq!(answer, json!({"return": {}}));
    assert_eq!(run.wait_log(4), ["+ctrl", "+a", "-a", "-ctrl"]);
    let wrong = json!([{"type": "qcode", "data": "any"}]);
    let answer = one(&context, json!({"execute": "send-key", "arguments": {"keys": wrong}}));
    assert_eq!(description(&answer), "Parameter 'data' does not accept value 'any'");
}

#[test]
fn input_events_reach_keyboard_and_mouse() {
    let (run, context) = context();
    let events = json!([
        {"type": "key", "data": {"down": true, "key": {"type": "qcode", "data": "f1"}}},
        {"type": "rel", "data": {"axis": "x", "value": 5}},
        {"type": "rel", "data": {"axis": "y", "value": 5}},
        {"type": "btn", "data": {"button": "right", "down": true}},
        {"type": "btn", "data": {"button": "wheel-up", "down": true}},
    ]);
    let answer = one(&context, json!({"execute": "input-send-event", "arguments": {"events": events}}));
    assert_eq!(answer, json!({"return": {}}));
    assert_eq!(run.take_log(), ["+f1", "move 5 0 0", "move 0 -5 0", "buttons 2", "move 0 0 -1"]);
    let events = json!([{"type": "abs", "data": {"axis": "x", "value": 5}}]);
    let answer = one(&context, json!({"execute": "input-send-event", "arguments": {"events": events}}));
    assert_eq!(description(&answer), "no device takes input events of type 'abs'");
}

#[test]
fn memory_and_screen_are_written_to_files() {
    let (run, context) = context();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let save = |command: &str, val: u64| {
        one(&context, json!({"execute": command, "arguments": {"val": val, "size": 3, "filename": file.to_str()}}))
    };
    save("pmemsave", 0x10);
    assert_eq!(std::fs::read(&file).unwrap(), [0x10, 0x11, 0x12]);
    save("memsave", 0x10);
    assert_eq!(std::fs::read(&file).unwrap(), [0x11, 0x12, 0x13]);
    assert_eq!(description(&save("pmemsave", 1 << 30)), "there is no memory");
    run.vga.lock().unwrap().memory_write(0x18000, b"x\x17");
    for (format, start) in [(json!(null), b"P6\n72"), (json!("ppm"), b"P6\n72"), (json!("png"), b"\x89PNG\r")] {
        let arguments = json!({"filename": file.to_str(), "format": format});
        assert_eq!(one(&context, json!({"execute": "screendump", "arguments": arguments})), json!({"return": {}}));
        assert!(std::fs::read(&file).unwrap().starts_with(start));
    }
    let arguments = json!({"filename": "/nonexistent/x"});
    let answer = one(&context, json!({"execute": "screendump", "arguments": arguments}));
    assert!(description(&answer).starts_with("failed to write file '/nonexistent/x'"));
}

#[test]
fn people_have_their_commands() {
    let (run, context) = context();
    let say = |line: &str| {
        let answer = one(&context, json!({"execute": "human-monitor-command", "arguments": {"command-line": line}}));
        answer["return"].as_str().unwrap().to_string()
    };
    assert_eq!(say("info registers"), "RIP=000000000000fff0\r\nCS=f000\r\n");
    run.vga.lock().unwrap().memory_write(0x18000 + 160, b"O\x07k\x07");
    assert!(say("info screen").starts_with("\r\nOk\r\n"));
    assert_eq!(say("info status"), "VM status: running\r\n");
    assert_eq!(say("sendkey ctrl-alt-0x7f 1"), "invalid parameter: 0x7f\r\n");
    assert_eq!(say("sendkey shift-a 1"), "");
    assert_eq!(run.wait_log(4), ["+shift", "+a", "-a", "-shift"]);
    assert_eq!(say("mouse_move 1 -2"), "");
    assert_eq!(run.take_log(), ["move 1 2 0"]);
    assert_eq!(say("system_powerdown"), "there is no power button\r\n");
    assert_eq!(say("fly"), "unknown command: 'fly'\r\n");
    assert!(say("help").contains("sendkey"));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
        let (_, context) = context();
        let mut session = negotiated(&context);
        for part in parts {
            session.receive(&context, &part);
        }
    }
}
