//! A command's arguments, taken one by one; what is left over is an error, as in QMP.

use serde_json::{Map, Value};

/// A failed command: QMP's error class and description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub class: &'static str,
    pub description: String,
}

impl Failure {
    /// The class of nearly all errors.
    pub fn generic(description: impl Into<String>) -> Failure {
        Failure { class: "GenericError", description: description.into() }
    }

    /// No such command, or not now.
    pub fn not_found(description: impl Into<String>) -> Failure {
        Failure { class: "CommandNotFound", description: description.into() }
    }
}

impl From<super::controls::Refused> for Failure {
    fn from(refused: super::controls::Refused) -> Failure {
        Failure::generic(refused.0)
    }
}

/// The members of an object.
#[derive(Debug)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Of an object, or of nothing. `what` names the object for an error.
    pub fn of(value: Option<Value>, what: &str) -> Result<Arguments, Failure> {
        match value {
            None => Ok(Arguments(Map::new())),
            Some(Value::Object(members)) => Ok(Arguments(members)),
            Some(_) => Err(wrong_type(what, "object")),
        }
    }

    /// A value, if it is given.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A value that must be given.
    pub fn required(&mut self, name: &str) -> Result<Value, Failure> {
        self.take(name).ok_or_else(|| Failure::generic(format!("Parameter '{name}' is missing")))
    }

    /// A text that must be given.
    pub fn text(&mut self, name: &str) -> Result<String, Failure> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            _ => Err(wrong_type(name, "string")),
        }
    }

    /// A text, if it is given.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "string")),
        }
    }

    /// A number that must be given.
    pub fn number(&mut self, name: &str) -> Result<u64, Failure> {
        self.required(name)?.as_u64().ok_or_else(|| wrong_type(name, "uint64"))
    }

    /// A number, if it is given.
    pub fn optional_number(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        self.take(name).map(|value| value.as_u64().ok_or_else(|| wrong_type(name, "uint64"))).transpose()
    }

    /// A truth value that must be given.
    pub fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        self.required(name)?.as_bool().ok_or_else(|| wrong_type(name, "boolean"))
    }

    /// A list that must be given.
    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Failure> {
        match self.required(name)? {
            Value::Array(values) => Ok(values),
            _ => Err(wrong_type(name, "array")),
        }
    }

    /// No more are expected.
    pub fn finish(self) -> Result<(), Failure> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Failure::generic(format!("Parameter '{name}' is unexpected"))),
        }
    }
}

/// QMP's words for a value of the wrong type.
pub fn wrong_type(name: &str, expected: &str) -> Failure {
    Failure::generic(format!("Invalid parameter type for '{name}', expected: {expected}"))
}
