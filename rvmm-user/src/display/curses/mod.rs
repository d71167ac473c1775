//! `--display curses`: the guest's screen in the terminal.
//!
//! The terminal is given back when the display is dropped, which the run does at each of its ends, and by the panic hook.

mod keyboard;
mod picture;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::crossterm::{cursor, execute};

use crate::host::escape;
use crate::monitor::controls::{Controls, RunState};
use crate::monitor::typist::press;
use keyboard::{Keyboard, Typed};

/// How often the screen is looked at.
const PERIOD: Duration = Duration::from_millis(40);

/// The display. It ends when this is dropped.
pub struct Curses {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _terminal: Taken,
}

/// The terminal while it is the display's.
struct Taken;

impl Taken {
    fn take() -> io::Result<Taken> {
        enable_raw_mode()?;
        // From here on the terminal is restored whatever happens.
        let taken = Taken;
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            print(info);
        }));
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone cannot be given back.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}

impl Curses {
    /// Takes the terminal and starts the display's thread. `escape`: the key that, with x after it, ends the run.
    pub fn start(controls: Arc<dyn Controls>, escape: escape::Key) -> io::Result<Curses> {
        let terminal = Taken::take()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new().name("curses".into()).spawn(move || {
            if let Err(error) = show(&*controls, escape, &seen) {
                tracing::error!("the terminal cannot be used as a display any more: {error}");
            }
        })?;
        Ok(Curses { stop, thread: Some(thread), _terminal: terminal })
    }
}

impl Drop for Curses {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ended by panicking or by itself; either way the terminal is restored next.
            let _ = thread.join();
        }
    }
}

fn show(controls: &dyn Controls, escape: escape::Key, stop: &AtomicBool) -> io::Result<()> {
    let mut terminal = ratatui::Terminal::new(ratatui::backend::CrosstermBackend::new(io::stdout()))?;
    let mut keyboard = Keyboard::new(escape);
    while !stop.load(Ordering::Relaxed) && controls.state() != RunState::Ended {
        let screen = controls.screen();
        terminal.draw(|frame| picture::draw(frame, screen.as_ref(), keyboard.message()))?;
        if !event::poll(PERIOD)? {
            continue;
        }
        // All that has been typed before the screen is drawn again.
        loop {
            if let Event::Key(key) = event::read()? {
                match keyboard.typed(key) {
                    Typed::Keys(keys) => keys.into_iter().for_each(|(key, down)| press(controls, key, down)),
                    Typed::Quit => controls.quit(),
                    Typed::Nothing => {}
                }
            }
            if !event::poll(Duration::ZERO)? {
                break;
            }
        }
    }
    Ok(())
}
