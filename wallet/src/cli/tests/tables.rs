//! What people see.

use super::{Stage, samples};

#[test]
fn info_is_a_list_of_facts() {
    let text = Stage::new().text(&["info"]);
    assert!(text.contains("hub connected       no\n"), "{text}");
    assert!(text.contains("trouble             the hub does not answer\n"), "{text}");
    assert!(text.contains("be online again by  height 3,250\n"), "{text}");
    assert!(text.contains("hub's fee           1 sat + 100 ppm\n"), "{text}");
    let price = "inbound's price     1,000 sat + 500 ppm, and 10,000 sat for a first coin\n";
    assert!(text.contains(price), "{text}");
}

#[test]
fn channels_stand_in_columns() {
    let stage = Stage::new();
    stage.played.channels(vec![
        samples::channel(),
        samples::awaiting(samples::id(0x60)),
        samples::closed(samples::id(0x61)),
    ]);
    let text = stage.text(&["channels", "--closed"]);
    let expected = [
        "channel       phase                  usable   capacity, sat     ours, sat    hub's, sat  htlcs  can send, sat  can receive, sat  online by  note",
        "5f5f5f5f5f5f  open                   yes          1,000,000   600,000.500   399,999.500      0    590,000.500       389,999.500  3,250",
        "606060606060  awaiting_confirmation  offline      1,000,000   600,000.500   399,999.500      0    590,000.500       389,999.500  3,250  1 of 3 confirmations",
    ];
    let lines: Vec<String> = text.lines().map(squeeze).collect();
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(*line, squeeze(expected));
    }
    assert!(lines[3].ends_with("03"), "{text}");
    let columns: Vec<Option<usize>> = text.lines().map(|line| line.find("  ").map(|at| at + 2)).collect();
    assert!(columns[1..].iter().all(|column| *column == columns[1]), "{text}");
}

/// Runs of spaces become one.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_channel_that_is_not_paid_for_says_how_much_is_left() {
    let stage = Stage::new();
    stage.played.channels(vec![samples::priced(samples::id(0x5f))]);
    let text = stage.text(&["channels"]);
    let note = "9,100.500 sat of its price of 11,100 sat to be kept of what comes in\n";
    assert!(text.ends_with(note), "{text}");
}

#[test]
fn a_close_on_the_chain_says_what_it_waits_for() {
    let stage = Stage::new();
    stage.played.channels(vec![samples::failed(samples::id(0x5f))]);
    let text = stage.text(&["channels"]);
    let zeros = "0".repeat(62);
    let expected = format!(
        "5f5f5f5f5f5f on the chain:\n  our commitment {zeros}08 is in block 1256\n  to_local of 600000 sat: waits until height 1400\n"
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn what_is_empty_says_how_to_begin() {
    let stage = Stage::new();
    stage.played.channels(Vec::new());
    assert!(stage.text(&["channels"]).contains("hubwallet open"));
}

#[test]
fn balance_leaves_out_what_is_nothing() {
    let expected = "\
on the chain, confirmed   50,000 sat
  not yet in a block      7 sat
  kept to close channels  10,000 sat
in channels               600,000.500 sat
  can be sent now         590,000.500 sat
  can be received now     389,999.500 sat
";
    assert_eq!(Stage::new().text(&["balance"]), expected);
}

#[test]
fn payments_stand_in_columns() {
    let expected = "\
ended (UTC)          no.  direction  state                       sat  fee, sat  payment hash  description
2023-11-14 22:13:21    1  received   settled               5,000.001     0.000  040404040404
2023-11-14 22:13:21   13  sent       failed: no_liquidity    100.000     1.010  040404040404  two coffees
2023-11-14 22:13:21   12  sent       settled                 100.000     1.010  040404040404  two coffees
";
    let text = Stage::new().text(&["payments"]);
    assert_eq!(text, expected, "{text}");
}

#[test]
fn a_payment_a_stream_and_an_opening_tell_what_matters() {
    let stage = Stage::new();
    let paid = stage.text(&["pay", "lnbcrt1sample"]);
    assert!(paid.contains("paid          100 sat\nfee           1.010 sat\n"), "{paid}");
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let streamed = stage.text(&["stream", key, "--amount-msat", "100", "--ticks", "1000"]);
    assert!(streamed.contains("ticks settled  1,000 of 1,000\n"), "{streamed}");
    assert!(streamed.contains("took           20.5 s\n"), "{streamed}");
    let opened = stage.text(&["open", "--inbound-sat", "70000"]);
    let said =
        "of 70,000 sat is being opened, funded by the hub, for 1,070 sat at most, kept of what comes in\n";
    assert!(opened.contains(said), "{opened}");
    assert_eq!(stage.text(&["invoice"]), "lnbcrt1sample\n");
    assert_eq!(stage.text(&["address"]), "bcrt1qsample\n");
    assert_eq!(stage.text(&["stop"]), "stopped\n");
    let hash = "04".repeat(32);
    assert_eq!(stage.text(&["settle", &hash]), format!("settled {hash}\n"));
    assert_eq!(stage.text(&["cancel", &hash]), format!("cancelled {hash}\n"));
    let held = stage.text(&["held"]);
    assert!(held.contains("100 sat") && held.contains("250") && held.contains(&hash), "{held}");
    let decoded = stage.text(&["decode", "lnbcrt1sample"]);
    assert!(decoded.contains("2023-11-14 23:13:20 (expired)\n"), "{decoded}");
    assert!(stage.text(&["streams"]).contains("sent       ended"));
    assert!(stage.text(&["close", "5f"]).contains("channel 5f5f5f5f5f5f is shutting_down\n"));
}

#[test]
fn events_are_one_line_each() {
    let stage = Stage::new();
    stage.played.events((28..=30).map(|index| Ok(samples::event(index))).collect());
    let expected = "      \
28  2023-11-14 22:13:20  stream 060606060606 sent ended: 1,000 ticks, 100 sat
      29  2023-11-14 22:13:20  channel 5f5f5f5f5f5f closed height=1200 paid_sat=599000 txid=0000000000000000000000000000000000000000000000000000000000000003
      30  2023-11-14 22:13:20  payment 12 sent of 100 sat settled
";
    assert_eq!(stage.text(&["events", "--from", "28"]), expected);
}
