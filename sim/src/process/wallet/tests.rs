//! Wallets alone with their node, and wallets with a real hub over a net that carries everything at once.

use bitcoin::{Address, Amount};
use prost::Message;
use proto::hub::v1 as hub_pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::Wallet;
use redb::StorageBackend;
use tonic::{Request, Response, Status};

use super::*;
use crate::clock::Clock;
use crate::disk::{Cut, Trouble};
use crate::process::{HubEnd, HubProcess, HubSetup, WalletEnd, hub_line, wallet_line};
use crate::seed::{Chance, Seed};

/// A process's surroundings, which outlive it.
struct Home<S> {
    setup: S,
    disk: SimDisk,
    world: World,
}

/// A wallet, its surroundings, and its connection.
struct Seat {
    home: Home<WalletSetup>,
    process: WalletProcess,
    line: Option<(WalletEnd, HubEnd)>,
}

/// A chain, a hub, and wallets.
struct Town {
    clock: Clock,
    node: SimNode,
    chance: Chance,
    hub_home: Home<HubSetup>,
    hub: HubProcess,
    seats: Vec<Seat>,
    lines: u8,
    /// Everything that went over a line.
    heard: Vec<Vec<u8>>,
}

impl Town {
    fn new(seed: u64, wallets: usize) -> Town {
        let (seed, clock) = (Seed(seed), Clock::default());
        let node = SimNode::new(seed, clock.clone());
        let setup = HubSetup::new(seed.stream("hub seed").bytes());
        let home = Home { setup, disk: SimDisk::new(), world: clock.world(seed, "hub") };
        let hub = HubProcess::start(&home.setup, &home.disk, &node, home.world.clone()).unwrap();
        let seats = (0..wallets).map(|index| {
            let name = format!("wallet {index}");
            let setup = WalletSetup::new(&name, seed.stream(&name).bytes(), home.setup.node_id());
            let home = Home { setup, disk: SimDisk::new(), world: clock.world(seed, &name) };
            let process = start(&home, &node);
            Seat { home, process, line: None }
        });
        let seats = seats.collect();
        let chance = seed.stream("test");
        let mut town = Town { clock, node, chance, hub_home: home, hub, seats, lines: 0, heard: Vec::new() };
        town.settle();
        town
    }

    /// Until nothing moves any more without time passing.
    fn settle(&mut self) {
        loop {
            self.hub.settle().unwrap();
            let mut moved = false;
            for index in 0..self.seats.len() {
                self.seats[index].process.settle().unwrap();
                moved |= self.connect(index);
                moved |= self.carry(index);
            }
            if !moved {
                return;
            }
        }
    }

    fn connect(&mut self, index: usize) -> bool {
        let Some(dial) = self.seats[index].process.dialed() else { return false };
        self.lines += 1;
        let (hub_line, hub_end) = hub_line([self.lines; 32]);
        let (wallet_line, wallet_end) = wallet_line([self.lines; 32], ::wallet::limits::FRAMES_OUT);
        dial.answer(wallet_line);
        self.hub.connect(hub_line);
        self.seats[index].line = Some((wallet_end, hub_end));
        true
    }

    fn carry(&mut self, index: usize) -> bool {
        let Some((wallet, hub)) = &mut self.seats[index].line else { return false };
        let mut moved = false;
        while let Ok(place) = hub.to_hub.try_reserve()
            && let Ok(frame) = wallet.from_wallet.try_recv()
        {
            self.heard.push(frame.encode_to_vec());
            place.send(Ok(frame));
            moved = true;
        }
        while let Ok(place) = wallet.to_wallet.try_reserve()
            && let Ok(frame) = hub.from_hub.try_recv()
        {
            self.heard.push(frame.as_ref().map(Message::encode_to_vec).unwrap_or_default());
            place.send(frame);
            moved = true;
        }
        if wallet.to_wallet.is_closed() || hub.to_hub.is_closed() {
            self.seats[index].line = None;
            return true;
        }
        moved
    }

    fn pass_ms(&mut self, ms: u64) {
        self.clock.advance_ms(ms);
        self.hub.advance_ms(ms);
        self.seats.iter_mut().for_each(|seat| seat.process.advance_ms(ms));
        self.settle();
    }

    /// Blocks are found, seen by everybody, and what waited a moment for company goes on.
    fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.node.mine_blocks(1);
            self.settle();
            self.pass_ms(5_000);
        }
    }

    fn ask<T, F>(&mut self, index: usize, call: impl FnOnce(Service) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let mut call = self.seats[index].process.call(call);
        for _ in 0..100 {
            self.settle();
            if let Some(answer) = call.answer() {
                return answer.unwrap().unwrap().into_inner();
            }
            self.pass_ms(100);
        }
        panic!("no answer in ten seconds");
    }

    fn fund_wallet(&mut self, index: usize, sat: u64) {
        let address = self.ask(index, new_address).address;
        self.fund(&address, sat);
    }

    fn fund_hub(&mut self, sat: u64) {
        let mut call = self.hub.call(|operator| async move {
            operator.new_address(Request::new(hub_pb::NewAddressRequest {})).await
        });
        self.settle();
        let address = call.answer().unwrap().unwrap().unwrap().into_inner().address;
        self.fund(&address, sat);
    }

    fn fund(&mut self, address: &str, sat: u64) {
        let address: Address<_> = address.parse().unwrap();
        self.node.fund(&address.assume_checked().script_pubkey(), Amount::from_sat(sat));
        self.mine(1);
    }

    fn balance(&mut self, index: usize) -> pb::GetBalanceResponse {
        self.ask(
            index,
            |service| async move { service.get_balance(Request::new(pb::GetBalanceRequest {})).await },
        )
    }

    /// Kills a wallet and starts it again.
    fn kill(&mut self, index: usize, cut: Cut) {
        let Seat { home, process, .. } = self.seats.remove(index);
        home.disk.cut(cut, &mut self.chance);
        drop(process);
        let process = start(&home, &self.node);
        self.seats.insert(index, Seat { home, process, line: None });
        self.settle();
        // The hub's next connection comes after the dialer's first look.
        self.pass_ms(1_000);
    }

    fn invoice(&mut self, payee: usize, msat: u64) -> String {
        let request = pb::CreateInvoiceRequest { amount_msat: Some(msat), ..Default::default() };
        self.ask(payee, |service| async move { service.create_invoice(Request::new(request)).await }).invoice
    }

    fn pay(&mut self, payer: usize, invoice: String) -> pb::Payment {
        let request = pb::PayRequest { invoice, ..Default::default() };
        self.ask(payer, |service| async move { service.pay(Request::new(request)).await }).payment.unwrap()
    }
}

fn start(home: &Home<WalletSetup>, node: &SimNode) -> WalletProcess {
    WalletProcess::start(&home.setup, &home.disk, node, home.world.clone()).unwrap()
}

async fn new_address(service: Service) -> Result<Response<pb::NewAddressResponse>, Status> {
    service.new_address(Request::new(pb::NewAddressRequest {})).await
}

async fn info(service: Service) -> Result<Response<pb::GetInfoResponse>, Status> {
    service.get_info(Request::new(pb::GetInfoRequest {})).await
}

#[test]
fn a_wallet_follows_the_chain_and_connects_also_after_it_was_killed_or_stopped() {
    let mut town = Town::new(1, 1);
    town.mine(2);
    let before = town.ask(0, info);
    assert!(before.hub_connected, "{:?}", town.seats[0].process.connection());
    assert_eq!(before.height, town.node.height());
    let first = town.ask(0, new_address).address;
    for cut in [Cut::Kill, Cut::Power] {
        town.kill(0, cut);
        let after = town.ask(0, info);
        assert!(after.hub_connected, "{:?}", town.seats[0].process.connection());
        assert_eq!(after.node_key, before.node_key);
        assert_ne!(town.ask(0, new_address).address, first, "an address was given twice");
    }
    let Seat { home, process, .. } = town.seats.remove(0);
    process.stop().unwrap();
    start(&home, &town.node).stop().unwrap();
}

#[test]
fn a_wallet_whose_node_is_away_starts_if_it_ever_saw_one() {
    let town = Town::new(2, 0);
    let setup = WalletSetup::new("alone", [3; 64], town.hub_home.setup.node_id());
    let home = Home { setup, disk: SimDisk::new(), world: town.clock.world(Seed(2), "alone") };
    town.node.set_all_down(true);
    let died = WalletProcess::start(&home.setup, &home.disk, &town.node, home.world.clone()).err();
    assert!(died.is_some_and(|died| died.why.contains("bitcoind")));
    town.node.set_all_down(false);
    start(&home, &town.node).stop().unwrap();
    town.node.set_all_down(true);
    let mut wallet = start(&home, &town.node);
    wallet.settle().unwrap();
    assert!(wallet.dialed().is_none(), "it calls the hub before it knows the tip");
    town.node.set_all_down(false);
    wallet.advance_ms(60_000);
    wallet.settle().unwrap();
    assert!(wallet.dialed().is_some());
}

#[test]
fn a_disk_that_fails_is_the_wallets_death() {
    let mut town = Town::new(3, 1);
    town.seats[0].home.disk.trouble(Trouble::SyncFails { after: 0 });
    town.node.mine_blocks(1);
    let died = town.seats[0].process.settle().unwrap_err();
    assert_eq!(died.who, "wallet 0");
    town.kill(0, Cut::Kill);
    assert_eq!(town.ask(0, info).height, town.node.height());
}

/// A channel each way, payments, and a payee that loses power in between; everything that was said, and the payee's disk.
fn day(seed: u64) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut town = Town::new(seed, 2);
    let (payer, payee) = (0, 1);
    town.fund_wallet(payer, 1_000_000);
    town.fund_hub(2_000_000);
    let open = pb::OpenChannelRequest { amount_sat: 500_000, ..Default::default() };
    town.ask(payer, |service| async move { service.open_channel(Request::new(open)).await });
    let inbound = pb::RequestInboundRequest { amount_sat: 300_000, ..Default::default() };
    town.ask(payee, |service| async move { service.request_inbound(Request::new(inbound)).await });
    town.mine(8);
    assert!(town.balance(payer).spendable_msat > 400_000_000);
    assert!(town.balance(payee).receivable_msat > 200_000_000);

    let invoice = town.invoice(payee, 50_000_000);
    let paid = town.pay(payer, invoice);
    assert_eq!(paid.state(), pb::PaymentState::Settled);
    // Less the price of a channel that the hub funded.
    let first = town.balance(payee).channels_msat;
    assert!((25_000_000..50_000_000).contains(&first), "{first}");

    let invoice = town.invoice(payee, 1_500);
    town.kill(payee, Cut::Power);
    assert_eq!(
        town.pay(payer, invoice).state(),
        pb::PaymentState::Settled,
        "a payee was killed before it was paid"
    );
    assert_eq!(town.balance(payee).channels_msat, first + 1_500);
    town.seats.remove(payer).process.stop().unwrap();
    let Seat { home, process, .. } = town.seats.remove(0);
    process.stop().unwrap();
    town.hub.stop().unwrap();
    (town.heard, image(&home.disk))
}

/// Every byte on the disk.
fn image(disk: &SimDisk) -> Vec<u8> {
    let backend = disk.backend();
    let mut bytes = vec![0; usize::try_from(backend.len().unwrap()).unwrap()];
    backend.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn wallets_open_channels_with_a_real_hub_and_one_pays_the_other_the_same_in_each_run_of_a_seed() {
    let (first, second) = (day(4), day(4));
    assert!(first.0.len() > 20);
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the disks differ");
}
