use proptest::prelude::*;

use super::*;

#[test]
fn a_number_that_another_has_is_not_taken_and_one_of_its_own_is() {
    let me = Ipv4Addr::new(192, 0, 2, 1);
    let [one, twin] = [[10, 0, 0, 1], [26, 0, 0, 1]].map(Ipv4Addr::from);
    let from = |source| State { source, destination: me, spi: spi(source, 5) };
    let there: There = [taken((from(one), 7))].into();
    assert_eq!(other_with_number(&there, &[from(PEER), from(twin)], 7), Some(one));
    assert_eq!(other_with_number(&there, &[from(PEER), from(one)], 7), None);
    assert_eq!(other_with_number(&there, &[from(one)], 8), Some(one), "it is not ours");
}

#[test]
fn to_a_host_that_is_shut_nothing_goes_and_its_keys_stay() {
    let had = steps(None, &told(1, &[4, 5], Some(5), Some(5)), false).after;
    let after = shut(Some(&had), 2);
    assert_eq!((after.keys(), after.link), (had.keys(), 1));
    assert_eq!(
        (after.out_action(), after.in_action()),
        (Some(Action::Drop), Some(Action::Encrypt))
    );
    assert_eq!(shut(None, 2).out_action(), Some(Action::Drop));
    let again = steps(Some(&after), &told(1, &[4, 5], Some(5), Some(5)), false);
    assert_eq!((again.add, again.after.is_shut), (Keys::default(), false), "it goes on by them");
}

#[test]
fn what_could_not_be_is_remembered_until_it_can_or_another_is_told() {
    let mut shut = Shut::new();
    let [first, silent, next] =
        [told(1, &[4, 5], Some(5), None), told(1, &[], None, None), told(1, &[5, 6], None, None)];
    remember(&mut shut, &first, true);
    remember(&mut shut, &silent, false);
    assert_eq!(shut.get(&PEER), Some(&first), "nothing else was said");
    remember(&mut shut, &next, true);
    assert_eq!(shut.get(&PEER), Some(&next));
    remember(&mut shut, &next, false);
    assert!(shut.is_empty());
    remember(&mut shut, &first, true);
    remember(&mut shut, &told(2, &[], None, None), false);
    assert!(shut.is_empty(), "keys of another link are not good any more");
}

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn told(link: u64, epochs: &[u64], send: Option<u64>, heard: Option<u64>) -> Tunnel {
    let key = || EspKey::new([1; ESP_KEY_LEN]);
    let keys =
        epochs.iter().map(|epoch| TunnelKeys { epoch: *epoch, inbound: key(), outbound: key() });
    Tunnel { peer: PEER, link, keys: keys.collect(), send, heard }
}

fn after(before: Option<&Peer>, tunnel: &Tunnel, was_clear: bool) -> Peer {
    steps(before, tunnel, was_clear).after
}

#[test]
fn nothing_goes_to_a_new_host_before_both_are_ready_and_nothing_is_taken_in_the_clear() {
    let first = after(None, &told(1, &[4, 5], None, None), false);
    assert_eq!(
        (first.out_action(), first.in_action()),
        (Some(Action::Drop), Some(Action::Encrypt))
    );
    let ready = after(Some(&first), &told(1, &[4, 5], Some(5), None), false);
    assert_eq!(ready.outbound, Some(5));
    assert_eq!(ready.out_action(), Some(Action::Encrypt));
}

#[test]
fn hosts_that_talk_in_the_clear_go_on_with_it_until_both_encrypt() {
    let first = after(None, &told(1, &[4, 5], None, None), true);
    assert_eq!((first.out_action(), first.in_action()), (None, None));
    let sends = after(Some(&first), &told(1, &[4, 5], Some(5), None), true);
    assert_eq!((sends.out_action(), sends.in_action()), (Some(Action::Encrypt), None));
    let both = after(Some(&sends), &told(1, &[4, 5], Some(5), Some(5)), true);
    assert_eq!(both.in_action(), Some(Action::Encrypt));
    // Nothing that is told later opens it again.
    let later = after(Some(&both), &told(1, &[5, 6], None, None), true);
    assert!(later.is_strict);
    let other = after(Some(&both), &told(2, &[], None, None), true);
    assert_eq!(
        (other.out_action(), other.in_action()),
        (Some(Action::Drop), Some(Action::Encrypt))
    );
}

#[test]
fn keys_of_before_stay_until_the_other_host_sends_by_new_ones() {
    let first = after(None, &told(1, &[4, 5], Some(5), None), false);
    let away = after(Some(&first), &told(1, &[], None, None), false);
    assert_eq!(away, first, "of a host that is away nothing is said");
    let days_later = after(Some(&away), &told(1, &[8, 9], None, None), false);
    assert_eq!(days_later.inbound, [4, 5, 8, 9].into());
    assert_eq!(days_later.outbound, Some(5));
    let heard = steps(Some(&days_later), &told(1, &[8, 9], Some(9), Some(8)), false);
    assert_eq!(heard.after.inbound, [8, 9].into());
    assert_eq!(heard.drop_last, Keys { inbound: [4, 5].into(), outbound: Some(5) });
    assert_eq!(heard.add, Keys { inbound: BTreeSet::new(), outbound: Some(9) });
    assert_eq!(heard.drop_first, Keys::default(), "the new one is there before the old one goes");
}

#[test]
fn keys_of_another_link_go_before_those_of_the_same_numbers_come() {
    let first = after(None, &told(1, &[4, 5], Some(5), Some(5)), false);
    let other = steps(Some(&first), &told(2, &[4, 5], None, None), false);
    assert_eq!(other.drop_first, Keys { inbound: [4, 5].into(), outbound: Some(5) });
    assert_eq!(other.add.inbound, [4, 5].into());
    assert_eq!(other.after.outbound, None);
    // An epoch whose number comes round again.
    let round = steps(Some(&first), &told(1, &[19, 20], Some(20), None), false);
    assert_eq!(round.drop_first, Keys { inbound: [4, 5].into(), outbound: Some(5) });
    assert_eq!(round.after.inbound, [19, 20].into());
}

/// What one host is told, as a region would that sees what is acknowledged, however late, or forgets it.
#[derive(Clone, Debug)]
enum Act {
    Tell(usize),
    /// The day ends.
    Turn,
    /// The region is started again, and knows nothing of what was said.
    Forget,
    /// A host loses its kernel's state.
    Boot(usize),
}

/// What a host said last: its link, the epochs that it takes in, and the one that it sends by.
type Said = (u64, BTreeSet<u64>, Option<u64>);

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..2_usize).prop_map(Act::Tell),
        2 => Just(Act::Turn),
        1 => Just(Act::Forget),
        1 => (0..2_usize).prop_map(Act::Boot),
    ]
}

proptest! {
    #[test]
    fn nobody_sends_by_a_key_that_the_other_host_does_not_take_in(
        acts in prop::collection::vec(act(), 1..60)
    ) {
        let mut hosts: [Option<Peer>; 2] = [None, None];
        let mut said: [Option<Said>; 2] = [None, None];
        let (mut epoch, mut link) = (100_u64, 1_u64);
        for act in acts {
            match act {
                Act::Turn => epoch += 1,
                Act::Forget => said = [None, None],
                Act::Boot(host) => {
                    link += 1;
                    hosts[host] = None;
                    said[host] = None;
                }
                Act::Tell(host) => {
                    let other = said[1 - host].as_ref().filter(|(its, _, _)| *its == link);
                    let epochs = [epoch - 1, epoch];
                    let send = other.and_then(|(_, takes, _)| {
                        epochs.into_iter().rev().find(|it| takes.contains(it))
                    });
                    let heard = other.and_then(|(_, _, sends)| *sends);
                    let tunnel = told(link, &epochs, send, heard);
                    let next = after(hosts[host].as_ref(), &tunnel, false);
                    said[host] = Some((link, epochs.into(), send));
                    hosts[host] = Some(next);
                }
            }
            for (from, to) in [(0, 1), (1, 0)] {
                let (Some(from), Some(to)) = (&hosts[from], &hosts[to]) else { continue };
                if let Some(sends) = from.outbound.filter(|_| from.link == to.link) {
                    prop_assert!(to.inbound.contains(&sends), "{from:?} {to:?}");
                }
                prop_assert!(from.is_strict && from.in_action() == Some(Action::Encrypt));
            }
        }
    }
}
