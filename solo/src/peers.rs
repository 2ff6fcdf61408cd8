//! Connections counted by address, so that no one client has all the places of a server.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How many connections each address has.
#[derive(Default)]
pub struct Peers(Mutex<BTreeMap<IpAddr, usize>>);

/// One of an address's connections; counts until it is dropped.
pub struct OfPeer(Arc<Peers>, IpAddr);

impl Peers {
    /// The most that one address may have of so many places: an eighth is for others. A reverse proxy does with the rest.
    pub const fn share(places: usize) -> usize {
        places - places / 8
    }

    /// Counts one more, unless the address has `most` already.
    pub fn admit(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<OfPeer> {
        let mut peers = self.0.lock();
        if peers.get(&address).is_some_and(|count| *count >= most) {
            return None;
        }
        *peers.entry(address).or_default() += 1;
        Some(OfPeer(self.clone(), address))
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Drop for OfPeer {
    fn drop(&mut self) {
        let mut peers = self.0 .0.lock();
        if let Some(count) = peers.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_have_all_places() {
        let peers = Arc::new(Peers::default());
        let [one, two] = [1, 2].map(|i| IpAddr::from([127, 0, 0, i]));
        let held: Vec<_> = (0..3).map_while(|_| peers.admit(one, 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(peers.admit(two, 2).is_some());
        drop(held);
        assert!(peers.admit(one, 2).is_some());
        assert!(peers.is_empty());
        assert_eq!([0, 1, 8, 900].map(Peers::share), [0, 1, 7, 788]);
    }
}
