//! A real browser: Chromium, through its driver.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::http::Method;
use base64::{Engine, prelude::BASE64_STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    key::Key,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, within};

/// The screen that shows a page.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
}

pub const DESKTOP: Screen = Screen { width: 1280, height: 800, is_dark: false };
pub const PHONE: Screen = Screen { width: 360, height: 740, is_dark: true };

/// A browser with one window, and a new profile.
pub struct Browser {
    pub page: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    pub async fn start(screen: Screen) -> Self {
        let is_there = |program| Command::new(program).arg("--version").output().is_ok();
        assert!(
            is_there("chromedriver") && is_there("chromium"),
            "chromium or chromedriver is missing"
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--lang=en-GB",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments, "binary": "/usr/bin/chromium" },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is one") };
        let url = format!("http://127.0.0.1:{port}");
        let page = within(async {
            loop {
                let mut builder =
                    ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
                builder.capabilities(Capabilities::from_iter(capabilities.clone()));
                match builder.connect(&url).await {
                    Ok(page) => break page,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await;
        let browser = Self { page, driver, _profile: profile };
        browser.set_screen(screen).await;
        browser
    }

    pub async fn set_screen(&self, Screen { width, height, is_dark }: Screen) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        // Only one window can be in front, so each page behaves as if its own were.
        self.devtools("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
    }

    pub async fn open(&self, url: &str) {
        within(self.page.goto(url)).await.unwrap();
    }

    /// Clicks the first element of this kind that has this text.
    pub async fn click(&self, selector: &str, text: &str) {
        self.wait(
            &format!("{selector} with {text:?}"),
            "const element = [...document.querySelectorAll(arguments[0])]
               .find((element) => element.checkVisibility() && element.innerText.includes(arguments[1]));
             element?.click();
             return Boolean(element);",
            vec![json!(selector), json!(text)],
        )
        .await;
    }

    /// The element, once it exists.
    pub async fn find(&self, selector: &str) -> Element {
        self.page.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await.unwrap()
    }

    pub async fn write(&self, selector: &str, text: &str) {
        self.find(selector).await.send_keys(text).await.unwrap();
    }

    pub async fn press(&self, key: Key) {
        let active = self.page.active_element().await.unwrap();
        active.send_keys(&char::from(key).to_string()).await.unwrap();
    }

    /// Moves the mouse to the first element of this kind and does something with its button.
    pub async fn mouse(&self, event: &str, selector: &str) {
        let place = format!(
            "const {{ x, y, width, height }} = document.querySelector({selector:?}).getBoundingClientRect();
             return [x + width / 2, y + height / 2];"
        );
        let place = self.run(&place).await;
        let event = json!({
            "type": event, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
        });
        self.devtools("Input.dispatchMouseEvent", event).await;
    }

    /// The id of the focused element.
    pub async fn focused(&self) -> String {
        let id = self.run("return document.activeElement.id;").await;
        id.as_str().unwrap().to_owned()
    }

    /// Writes a message and sends it with the keyboard.
    pub async fn say(&self, text: &str) {
        self.write("#text", &format!("{text}{}", char::from(Key::Enter))).await;
    }

    /// Waits until a visible element of this kind has this text.
    pub async fn sees(&self, selector: &str, text: &str) {
        self.wait(
            &format!("{selector} with {text:?}"),
            "return [...document.querySelectorAll(arguments[0])].some((element) =>
               element.checkVisibility() && element.innerText.includes(arguments[1]));",
            vec![json!(selector), json!(text)],
        )
        .await;
    }

    /// Waits until no element of this kind is visible.
    pub async fn sees_no(&self, selector: &str) {
        self.wait(
            &format!("no {selector}"),
            "return ![...document.querySelectorAll(arguments[0])].some((element) => element.checkVisibility());",
            vec![json!(selector)],
        )
        .await;
    }

    /// The result of the script.
    pub async fn run(&self, script: &str) -> Value {
        within(self.page.execute(script, vec![])).await.unwrap()
    }

    /// Waits until the script returns true.
    pub async fn wait(&self, what: &str, script: &str, arguments: Vec<Value>) {
        let started_at = Instant::now();
        while self.page.execute(script, arguments.clone()).await.unwrap() != json!(true) {
            if started_at.elapsed() > PATIENCE {
                let page = self.run("return document.body.innerText;").await;
                panic!("{what} did not come:\n{}", page.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A picture of the page, as PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let shot = self.devtools("Page.captureScreenshot", json!({ "format": "png" })).await;
        BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// The browser's complaints since the last call.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.page.issue_cmd(DriverCommand::Log).await.unwrap();
        let entries = log.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let command = DriverCommand::DevTools(json!({ "cmd": command, "params": parameters }));
        within(self.page.issue_cmd(command)).await.unwrap()
    }

    pub async fn stop(self) {
        let _ = self.page.clone().close().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is in the driver's group, and ends with it, also when a test has failed.
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.driver.wait();
    }
}

/// The commands of Chromium's driver beyond the standard.
#[derive(Clone, Debug)]
enum DriverCommand {
    DevTools(Value),
    Log,
}

impl WebDriverCompatibleCommand for DriverCommand {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&match self {
            Self::DevTools(_) => format!("session/{session}/goog/cdp/execute"),
            Self::Log => format!("session/{session}/se/log"),
        })
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        let body = match self {
            Self::DevTools(command) => command.clone(),
            Self::Log => json!({ "type": "browser" }),
        };
        (Method::POST, Some(body.to_string()))
    }
}
