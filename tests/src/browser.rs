//! A real browser: Debian's chromium without a window, driven by chromedriver.
//!
//! WebDriver is a few requests with JSON, and they are made here: the crates for it bring some forty others and another licence.
//!
//! Always holds: each has a profile of its own in a temporary folder, and ends with the test. It waits for conditions with a bound, and
//! keeps what the browser itself complains about: a script's mistake, or something that the Content-Security-Policy has kept out.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::program::{Program, has_program};
use crate::wait::within;

/// How long a page may take to become what a test expects. A browser on a small machine that others use, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Width of the page's window, in its own pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the person likes it dark.
    pub dark: bool,
    /// Dots of a picture for each of these pixels.
    pub scale: u32,
}

/// A desk: wide and light.
pub const DESK: View = View { width: 1280, height: 900, dark: false, scale: 1 };

/// A telephone at night.
pub const PHONE: View = View { width: 390, height: 844, dark: true, scale: 2 };

/// How WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one tab.
pub struct Browser {
    /// Where its orders go.
    session: String,
    agent: ureq::Agent,
    _driver: Program,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Whether there is a browser here; says so where not.
    pub fn is_there() -> bool {
        has_program("chromium") && has_program("chromedriver")
    }

    /// Starts one.
    #[track_caller]
    pub fn start() -> Browser {
        let profile = tempfile::Builder::new().prefix("browser-").tempdir().expect("a folder");
        let mut driver = Program::start(Command::new("chromedriver").arg("--port=0"));
        let port = driver.wait_for_line("started successfully on port ");
        let sessions = format!("http://127.0.0.1:{}/session", port.trim().trim_end_matches('.'));
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * PATIENCE));
        let agent = ureq::Agent::new_with_config(config.proxy(None).build());
        let wanted = json!({"capabilities": {"alwaysMatch": capabilities(profile.path())}});
        let begun = ask(&agent, &sessions, Some(&wanted));
        let id = begun["sessionId"].as_str().unwrap_or_else(|| panic!("the browser does not start: {begun}"));
        let browser = Browser { session: format!("{sessions}/{id}"), agent, _driver: driver, _profile: profile };
        browser.look_as(DESK);
        browser
    }

    /// Goes to an address and waits until the page is loaded.
    #[track_caller]
    pub fn go(&self, address: &str) {
        self.order("url", json!({"url": address}));
    }

    /// The address of the page.
    #[track_caller]
    pub fn address(&self) -> String {
        ask(&self.agent, &format!("{}/url", self.session), None).as_str().unwrap_or_default().to_owned()
    }

    /// Fills in the login page at an address, and waits until it was left.
    #[track_caller]
    pub fn log_in(&self, address: &str, (name, password): (&str, &str)) {
        self.go(address);
        self.type_into("input[name=name]", name);
        self.type_into("input[name=password]", password);
        self.click("main button, form button");
        self.until("the login is over", || !self.address().ends_with("/login"));
    }

    /// Types into the first field that a selector finds, in the place of what is there.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let field = self.find("css selector", selector);
        self.order(&format!("{field}/clear"), json!({}));
        self.order(&format!("{field}/value"), json!({"text": text}));
    }

    /// Clicks the first element that a selector finds.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.find("css selector", selector);
        self.order(&format!("{element}/click"), json!({}));
    }

    /// Clicks the link or button with these words.
    #[track_caller]
    pub fn click_words(&self, words: &str) {
        let path = format!("//*[self::a or self::button or self::summary][contains(normalize-space(.), \"{words}\")]");
        let element = self.find("xpath", &path);
        self.order(&format!("{element}/click"), json!({}));
    }

    /// What a person reads there: the text of the first element that a selector finds; empty where there is none.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let script = "const found = document.querySelector(arguments[0]); return found ? found.innerText : ''";
        self.run(script, &[json!(selector)]).as_str().unwrap_or_default().to_owned()
    }

    /// How many elements a selector finds.
    #[track_caller]
    pub fn count(&self, selector: &str) -> u64 {
        self.run("return document.querySelectorAll(arguments[0]).length", &[json!(selector)]).as_u64().unwrap_or(0)
    }

    /// Runs a script in the page and gives what it returns. The page's policy does not hold for it.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.order("execute/sync", json!({"script": script, "args": arguments}))
    }

    /// Waits for a condition of the page.
    #[track_caller]
    pub fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        within(PATIENCE, what, condition);
    }

    /// Looks at pages in another way from now on.
    #[track_caller]
    pub fn look_as(&self, view: View) {
        let View { width, height, dark, scale } = view;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600});
        self.tell("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", media);
    }

    /// What makes the page wider than its window, so that a person would have to push it to and fro; empty where nothing does.
    #[track_caller]
    pub fn sticks_out(&self) -> String {
        let script = "
            const page = document.documentElement;
            if (page.scrollWidth <= page.clientWidth) return '';
            const isOutside = (element) => element.getBoundingClientRect().right > page.clientWidth + 1;
            const found = [...document.body.querySelectorAll('*')].filter(isOutside);
            const named = found.map((element) => `${element.tagName}.${element.getAttribute('class')}#${element.id}`);
            return `${page.scrollWidth} of ${page.clientWidth}: ${named.slice(0, 20).join(' ')}`";
        self.run(script, &[]).as_str().unwrap_or_default().to_owned()
    }

    /// Looks at the page on a telephone and at a desk, in dark and in light: it must fit, no name may have become markup or turn text around,
    /// and the browser must have nothing to complain of.
    #[track_caller]
    pub fn looks_well(&self, what: &str) {
        for view in [PHONE, DESK] {
            self.look_as(view);
            let mut outside = String::new();
            // Charts follow a new width in their own time.
            let fits = || {
                outside = self.sticks_out();
                outside.is_empty()
            };
            let fitted =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| within(PATIENCE, "the page fits", fits)));
            assert!(fitted.is_ok(), "{what} {view:?}: {outside}");
        }
        assert_eq!(self.count("img, b, [onerror]"), 0, "{what}: a name has become markup");
        assert!(!self.text("main").contains('\u{202e}'), "{what}: the direction of text is turned");
        assert_eq!(self.complaints(), Vec::<String>::new(), "{what}");
    }

    /// Writes a picture of what is to be seen, as PNG.
    #[track_caller]
    pub fn picture(&self, path: &Path) {
        let shot = ask(&self.agent, &format!("{}/screenshot", self.session), None);
        let png = BASE64_STANDARD.decode(shot.as_str().unwrap_or_default()).expect("a picture");
        std::fs::write(path, png).expect("the picture can be written");
    }

    /// What the browser has complained about since it was asked the last time: mistakes of scripts, and what the policy has kept out.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.order("se/log", json!({"type": "browser"}));
        let is_bad = |entry: &&Value| ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap_or_default());
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().filter(is_bad).map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Gives an order of the developers' tools.
    #[track_caller]
    fn tell(&self, order: &str, parameters: Value) {
        self.order("goog/cdp/execute", json!({"cmd": order, "params": parameters}));
    }

    /// The address of the first element that is found so.
    #[track_caller]
    fn find(&self, using: &str, value: &str) -> String {
        let found = self.order("element", json!({"using": using, "value": value}));
        format!("element/{}", found[ELEMENT].as_str().unwrap_or_default())
    }

    #[track_caller]
    fn order(&self, path: &str, body: Value) -> Value {
        ask(&self.agent, &format!("{}/{path}", self.session), Some(&body))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Else the browser would outlive its driver. There may be none any more.
        let _ = self.agent.delete(&self.session).call();
    }
}

/// Asks the driver, and gives the value of its answer.
#[track_caller]
fn ask(agent: &ureq::Agent, address: &str, body: Option<&Value>) -> Value {
    let answer = match body {
        Some(body) => agent.post(address).header("content-type", "application/json").send(body.to_string()),
        None => agent.get(address).call(),
    };
    let text = answer.and_then(|mut answer| answer.body_mut().with_config().limit(64 << 20).read_to_string());
    let text = text.unwrap_or_else(|error| panic!("the browser's driver: {error}"));
    let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("the browser's driver: {text}"));
    let value = answer["value"].take();
    assert!(value.get("error").is_none(), "the browser: {}: {}", value["error"], value["message"]);
    value
}

fn capabilities(profile: &Path) -> Value {
    let mut options = vec![
        "--headless=new".to_owned(),
        format!("--user-data-dir={}", profile.display()),
        "--disable-dev-shm-usage".into(),
        "--disable-gpu".into(),
        "--hide-scrollbars".into(),
        "--no-first-run".into(),
        "--disable-background-networking".into(),
        "--disable-component-update".into(),
    ];
    if rustix::process::geteuid().is_root() {
        // Its sandbox works for ordinary users only. What is looked at here is our own.
        options.push("--no-sandbox".into());
    }
    json!({
        "browserName": "chrome",
        "acceptInsecureCerts": true,
        "goog:chromeOptions": {"args": options},
        "goog:loggingPrefs": {"browser": "ALL"},
    })
}
