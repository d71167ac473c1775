//! One connection's protocol: bytes in, messages out. No sockets here.

use serde_json::{json, Value};

use super::arguments::{Arguments, Failure};
use super::commands::{execute, version, Context};

/// The longest request.
const REQUEST_LIMIT: usize = 1 << 20;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// To this client.
    Answer(Value),
    /// To all clients that have negotiated.
    Event(&'static str),
}

/// A connection's state.
#[derive(Debug, Default)]
pub struct Session {
    negotiated: bool,
    received: Vec<u8>,
}

impl Session {
    /// What a client is greeted with.
    pub fn greeting() -> Value {
        json!({ "QMP": { "version": version(), "capabilities": [] } })
    }

    /// The client has negotiated: it may be sent events.
    pub fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// Takes what was received and executes every request that is complete.
    pub fn receive(&mut self, context: &Context, bytes: &[u8]) -> Vec<Message> {
        self.received.extend(bytes);
        let mut messages = Vec::new();
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.received).into_iter::<Value>();
            let (value, used) = (values.next(), values.byte_offset());
            match value {
                None => {
                    // Only blanks are left.
                    self.received.clear();
                    return messages;
                }
                Some(Ok(request)) => {
                    self.received.drain(..used.min(self.received.len()));
                    self.request(context, request, &mut messages);
                }
                Some(Err(error)) if error.is_eof() && self.received.len() < REQUEST_LIMIT => return messages,
                Some(Err(_)) => {
                    messages.push(answer(None, Err(Failure::generic("Invalid JSON syntax"))));
                    // The next line may be right again.
                    match self.received.iter().position(|byte| *byte == b'\n') {
                        Some(end) => drop(self.received.drain(..=end)),
                        None => self.received.clear(),
                    }
                }
            }
        }
    }

    fn request(&mut self, context: &Context, request: Value, messages: &mut Vec<Message>) {
        let mut members = match Arguments::of(Some(request), "request") {
            Ok(members) => members,
            Err(_) => {
                let failure = Failure::generic("QMP input must be a JSON object");
                return messages.push(answer(None, Err(failure)));
            }
        };
        let id = members.take("id");
        match self.command(context, members) {
            Ok((value, event)) => {
                messages.push(answer(id, Ok(value)));
                messages.extend(event.map(Message::Event));
            }
            Err(failure) => messages.push(answer(id, Err(failure))),
        }
    }

    fn command(&mut self, context: &Context, mut members: Arguments) -> Result<(Value, Option<&'static str>), Failure> {
        let command = match members.take("execute") {
            Some(Value::String(command)) => command,
            Some(_) => return Err(Failure::generic("QMP input member 'execute' must be a string")),
            None => return Err(Failure::generic("QMP input lacks member 'execute'")),
        };
        let arguments = members.take("arguments");
        if members.finish().is_err() {
            return Err(Failure::generic("QMP input has a member that is unexpected"));
        }
        let arguments = match arguments {
            Some(value) if !value.is_object() => {
                return Err(Failure::generic("QMP input member 'arguments' must be an object"))
            }
            other => Arguments::of(other, "arguments")?,
        };
        match (self.negotiated, command.as_str()) {
            (false, "qmp_capabilities") => {
                // There are none to enable; a client may say so.
                self.negotiated = true;
                Ok((json!({}), None))
            }
            (false, _) => Err(Failure::not_found("Expecting capabilities negotiation with 'qmp_capabilities'")),
            (true, "qmp_capabilities") => {
                Err(Failure::not_found("Capabilities negotiation is already complete, command ignored"))
            }
            (true, command) => execute(context, command, arguments).map(|done| (done.value, done.event)),
        }
    }
}

fn answer(id: Option<Value>, result: Result<Value, Failure>) -> Message {
    let mut message = match result {
        Ok(value) => json!({ "return": value }),
        Err(failure) => json!({ "error": { "class": failure.class, "desc": failure.description } }),
    };
    if let (Some(id), Some(members)) = (id, message.as_object_mut()) {
        members.insert("id".into(), id);
    }
    Message::Answer(message)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
