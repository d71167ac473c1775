//! The other end of the socket: `rvmm screenshot` and `rvmm monitor`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};

use super::picture::Format;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a run's monitor.
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket that the run was given with `--monitor`.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Client { reader: BufReader::new(stream) };
        if client.message()?.get("QMP").is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no monitor's socket"));
        }
        client.execute("qmp_capabilities", json!({}))?;
        Ok(client)
    }

    /// Executes a command; its answer, or the error's text as an error.
    pub fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let answer = self.request(&json!({ "execute": command, "arguments": arguments }))?;
        match (answer.get("return"), answer.get("error")) {
            (Some(value), _) => Ok(value.clone()),
            (_, Some(error)) => {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("it failed");
                Err(io::Error::other(text.to_string()))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the monitor's answer is no answer")),
        }
    }

    /// Sends a request as it is; its answer as it is.
    pub fn request(&mut self, request: &Value) -> io::Result<Value> {
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let message = self.message()?;
            if message.get("event").is_none() {
                return Ok(message);
            }
        }
    }

    fn message(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the run has ended"));
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

/// `rvmm screenshot`: has the run write its screen to `output`.
pub fn screenshot(monitor: &Path, output: &Path) -> io::Result<()> {
    // The run writes the file, and may have another working directory.
    let output = std::path::absolute(output)?;
    let format = Format::of_file(&output).name();
    let arguments = json!({ "filename": output.to_string_lossy(), "format": format });
    Client::connect(monitor)?.execute("screendump", arguments).map(drop)
}

/// `rvmm monitor`: executes `commands`, or without any the lines of `input`; a line that begins with { is JSON, any other is for people.
pub fn monitor(path: &Path, commands: &[String], input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let mut client = Client::connect(path)?;
    if !commands.is_empty() {
        return command(&mut client, &commands.join(" "), output);
    }
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        command(&mut client, line.trim(), output)?;
        line.clear();
    }
    Ok(())
}

fn command(client: &mut Client, line: &str, output: &mut dyn Write) -> io::Result<()> {
    if line.starts_with('{') {
        let request = serde_json::from_str(line).map_err(io::Error::other)?;
        return writeln!(output, "{}", client.request(&request)?);
    }
    let text = client.execute("human-monitor-command", json!({ "command-line": line }))?;
    write!(output, "{}", text.as_str().unwrap_or_default().replace("\r\n", "\n"))?;
    output.flush()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
