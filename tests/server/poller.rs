//! A client that only polls, in plain HTTP.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::within;

pub struct Poller {
    http: reqwest::Client,
    session: String,
    arrived: Vec<String>,
}

impl Poller {
    pub async fn connect(server: &str) -> Self {
        let http = reqwest::Client::new();
        let url = format!("{server}/socket.io/?EIO=4&transport=polling");
        let opened = within(http.get(&url).send()).await.unwrap().text().await.unwrap();
        let open: Value = serde_json::from_str(&opened[1..]).unwrap();
        let session = format!("{url}&sid={}", open["sid"].as_str().unwrap());
        let mut poller = Self { http, session, arrived: Vec::new() };
        poller.post("40").await;
        poller.packet("40").await;
        poller
    }

    pub async fn post(&self, packets: &str) -> StatusCode {
        let request = self.http.post(&self.session).body(packets.to_owned());
        within(request.send()).await.unwrap().status()
    }

    pub async fn ask(&mut self, id: u32, event: &str, payload: Value) -> Value {
        self.post(&format!("42{id}{}", json!([event, payload]))).await;
        self.packet(&format!("43{id}")).await
    }

    /// The arguments of the next packet with this start. Others are kept.
    pub async fn packet(&mut self, start: &str) -> Value {
        loop {
            if let Some(index) = self.arrived.iter().position(|packet| packet.starts_with(start)) {
                let packet = self.arrived.remove(index);
                let json = packet.find('[').map_or("null", |at| &packet[at..]);
                return serde_json::from_str(json).unwrap();
            }
            let response = within(self.http.get(&self.session).send()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let text = response.text().await.unwrap();
            self.arrived.extend(text.split('\u{1e}').map(ToOwned::to_owned));
        }
    }
}
