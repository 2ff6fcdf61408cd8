//! WASI preview 1 commands on wasmtime.
//!
//! A program sees `/in` (descriptor 3, read only), `/out` (descriptor 4), its arguments, clocks and random numbers; no network, no environment,
//! no standard input. NaNs are canonical and relaxed SIMD deterministic, so integer and float results do not depend on the machine.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Weak,
    },
    time::{Duration, Instant},
};

use rustix::time::{clock_gettime, ClockId};
use tokio::sync::watch;
use wasmtime::{
    Config, Engine, EngineWeak, InstancePre, Linker, Module, ResourceLimiter, Store, Trap, UpdateDeadline,
    WasmBacktrace,
};
use wasmtime_wasi::{p1::WasiP1Ctx, FsPerms, I32Exit, WasiCtxBuilder};

use super::{
    log::LogStdout, quota, quota::Quota, throttle::Throttle, Handle, Outcome, Program, Refused, Runtime, Spec, Wish,
};

/// How often a running program is interrupted to see whether it may go on.
pub const TICK: Duration = Duration::from_millis(10);
/// Ticks between two measurements of `/out`.
const TICKS_PER_MEASUREMENT: u64 = 20;
/// Longest call stack of WebAssembly frames, bytes; deeper recursion is the trap "call stack exhausted".
const STACK_BYTES: usize = 1 << 20;
/// A table's element as the memory limit counts it: two machine words.
const TABLE_ELEMENT_BYTES: usize = 16;

/// The engine, with the WASI functions every program is linked to.
pub struct WasmRuntime {
    engine: Engine,
    linker: Linker<Host>,
    max_module_bytes: usize,
    // The ticker ends with the runtime and its programs: it holds the engine weakly.
    _ticker: Arc<()>,
}

/// What a store holds for its program.
pub(crate) struct Host {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) quota: Quota,
    limiter: Limiter,
}

/// Linear memory and tables together stay under one limit.
#[derive(Debug)]
struct Limiter {
    limit: usize,
    used: usize,
    refused: Option<usize>,
}

impl Limiter {
    fn grow(&mut self, from: usize, to: usize) -> bool {
        let wanted = self.used.saturating_add(to.saturating_sub(from));
        let fits = wanted <= self.limit;
        if fits {
            self.used = wanted;
        } else {
            self.refused = Some(wanted);
        }
        fits
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired)))
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        1
    }
}

/// Why the periodic check ended a run.
#[derive(Debug, thiserror::Error)]
#[error("storage: /out holds {bytes} bytes, limit {limit}")]
struct StorageExceeded {
    bytes: u64,
    limit: u64,
}

impl WasmRuntime {
    /// An engine that compiles modules of at most this length, bytes. Error: this machine cannot run it.
    pub fn new(max_module_bytes: usize) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(true)
            .relaxed_simd_deterministic(true)
            .wasm_multi_memory(false)
            .max_wasm_stack(STACK_BYTES)
            .async_stack_size(STACK_BYTES * 2);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
        linker.allow_shadowing(true);
        quota::add_to_linker(&mut linker)?;
        let alive = Arc::new(());
        tick(engine.weak(), Arc::downgrade(&alive))?;
        Ok(Self {
            engine,
            linker,
            max_module_bytes,
            _ticker: alive,
        })
    }
}

/// Advances the engine's epoch every [`TICK`], until the engine is gone.
fn tick(engine: EngineWeak, alive: Weak<()>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("tenure-ticker".into())
        .spawn(move || {
            while alive.strong_count() > 0 {
                std::thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
    Ok(())
}

impl Runtime for WasmRuntime {
    fn prepare(&self, module: &[u8]) -> Result<Arc<dyn Program>, Refused> {
        if module.len() > self.max_module_bytes {
            return Err(Refused::TooLarge {
                bytes: module.len(),
                limit: self.max_module_bytes,
            });
        }
        // `from_binary` takes no text: what is hashed is what is run.
        let module = Module::from_binary(&self.engine, module).map_err(|e| Refused::Invalid(format!("{e:#}")))?;
        let interface = |why: String| Refused::Interface(why);
        match module.get_export("_start") {
            Some(wasmtime::ExternType::Func(f)) if f.params().len() == 0 && f.results().len() == 0 => {}
            Some(other) => {
                return Err(interface(format!(
                    "_start is {other:?}, expected a function without parameters"
                )))
            }
            None => return Err(interface("it exports no function _start".into())),
        }
        if !matches!(module.get_export("memory"), Some(wasmtime::ExternType::Memory(_))) {
            return Err(interface("it exports no memory".into()));
        }
        let pre = self
            .linker
            .instantiate_pre(&module)
            .map_err(|e| interface(format!("{e:#}")))?;
        Ok(Arc::new(WasmProgram {
            pre,
            ticker: self._ticker.clone(),
        }))
    }
}

struct WasmProgram {
    pre: InstancePre<Host>,
    ticker: Arc<()>,
}

impl Program for WasmProgram {
    fn start(&self, spec: Spec) -> std::io::Result<Handle> {
        let wish = Arc::new(watch::Sender::new(Wish::default()));
        let (outcome_tx, outcome) = watch::channel(None);
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let handle = Handle {
            wish: wish.clone(),
            outcome,
            cpu_ns: cpu_ns.clone(),
        };
        let (pre, ticker) = (self.pre.clone(), self.ticker.clone());
        std::thread::Builder::new()
            .name("tenure-workload".into())
            .spawn(move || {
                let outcome = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                    Ok(runtime) => {
                        let mut kill = wish.subscribe();
                        runtime.block_on(async {
                            tokio::select! {
                                biased;
                                why = killed(&mut kill) => Outcome::Killed(why),
                                outcome = run(&pre, spec, wish.subscribe(), &cpu_ns) => outcome,
                            }
                        })
                    }
                    Err(error) => Outcome::Killed(format!("its thread could not be set up: {error}")),
                };
                drop(ticker);
                outcome_tx.send_replace(Some(outcome));
            })?;
        Ok(handle)
    }
}

async fn killed(wish: &mut watch::Receiver<Wish>) -> String {
    match wish.wait_for(|wish| wish.kill.is_some()).await {
        Ok(wish) => wish.kill.clone().unwrap_or_default(),
        // The sender lives in this thread too; without it nobody can ask any more.
        Err(_) => std::future::pending().await,
    }
}

fn thread_cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or(0))
}

async fn run(pre: &InstancePre<Host>, spec: Spec, wish: watch::Receiver<Wish>, cpu_ns: &Arc<AtomicU64>) -> Outcome {
    let limit = usize::try_from(spec.resources.memory_bytes).unwrap_or(usize::MAX);
    let host = match host(&spec, limit) {
        Ok(host) => host,
        Err(error) => return Outcome::Killed(format!("its directories could not be opened: {error:#}")),
    };
    let mut store = Store::new(pre.module().engine(), host);
    store.limiter(|host| &mut host.limiter);
    store.set_epoch_deadline(1);
    supervise(&mut store, spec.resources.cpu_milli, wish, cpu_ns.clone());

    let ended = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    }
    .await;
    let outcome = judge(ended.err(), &store.data().limiter);
    // What seeking made since the last tick counts as well.
    let quota = &mut store.data_mut().quota;
    match quota.measure() {
        Ok(bytes) if bytes > quota.limit() && matches!(outcome, Outcome::Exited(_)) => Outcome::OverLimit(
            StorageExceeded {
                bytes,
                limit: quota.limit(),
            }
            .to_string(),
        ),
        Ok(_) => outcome,
        Err(error) => Outcome::Killed(format!("/out could not be read: {error}")),
    }
}

fn host(spec: &Spec, memory_limit: usize) -> wasmtime::Result<Host> {
    let wasi = WasiCtxBuilder::new()
        .arg(&spec.name)
        .args(&spec.args)
        .stdout(LogStdout(spec.log.clone()))
        .stderr(LogStdout(spec.log.clone()))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        // Otherwise a lone sleep in poll_oneoff is std::thread::sleep, which no wish to end interrupts.
        .allow_blocking_current_thread(false)
        .preopened_dir(&spec.in_dir, "/in", FsPerms::ReadOnly)?
        .preopened_dir(&spec.out_dir, "/out", FsPerms::ReadWrite)?
        .build_p1();
    let quota = Quota::new(&spec.out_dir, spec.resources.storage_bytes);
    Ok(Host {
        wasi,
        quota,
        limiter: Limiter {
            limit: memory_limit,
            used: 0,
            refused: None,
        },
    })
}

/// At every tick of the engine: measures, rests to keep to the share, stands still while suspended, and lets the thread hear a wish to end.
fn supervise(store: &mut Store<Host>, cpu_milli: u64, wish: watch::Receiver<Wish>, cpu_ns: Arc<AtomicU64>) {
    let (wall, cpu) = (Instant::now(), thread_cpu_time());
    let mut throttle = Throttle::new(cpu_milli);
    let mut ticks = 0_u64;
    store.epoch_deadline_callback(move |mut context| {
        ticks += 1;
        if ticks.is_multiple_of(TICKS_PER_MEASUREMENT) {
            let quota = &mut context.data_mut().quota;
            let (bytes, limit) = (quota.measure()?, quota.limit());
            if bytes > limit {
                return Err(wasmtime::Error::new(StorageExceeded { bytes, limit }));
            }
        }
        let used = thread_cpu_time().saturating_sub(cpu);
        cpu_ns.store(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let rest = throttle.pause(wall.elapsed(), used);
        let mut wish = wish.clone();
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                if rest.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(rest).await;
                }
                // An error means that nobody can suspend any more.
                let _ = wish.wait_for(|wish| !wish.suspend).await.is_ok();
            }),
        ))
    });
}

/// Puts the engine's verdict into words that say what the program did.
fn judge(error: Option<wasmtime::Error>, limiter: &Limiter) -> Outcome {
    let Some(error) = error else { return Outcome::Exited(0) };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Outcome::Exited(exit.0);
    }
    if let Some(exceeded) = error.downcast_ref::<StorageExceeded>() {
        return Outcome::OverLimit(exceeded.to_string());
    }
    // A program that could not get memory usually ends itself: the cause is worth more than the instruction.
    if let Some(wanted) = limiter.refused {
        return Outcome::OverLimit(format!(
            "out of memory: it asked for {wanted} bytes, limit {}",
            limiter.limit
        ));
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return Outcome::Trapped(format!("{error:#}"));
    };
    let frame = error.downcast_ref::<WasmBacktrace>().and_then(|trace| {
        let frame = trace.frames().first()?;
        let name = frame
            .func_name()
            .map_or_else(|| format!("function {}", frame.func_index()), str::to_owned);
        Some(
            frame
                .module_offset()
                .map_or_else(|| name.clone(), |offset| format!("{name}, module offset {offset:#x}")),
        )
    });
    let what = trap.to_string();
    let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
    Outcome::Trapped(frame.map_or_else(|| format!("trap: {what}"), |frame| format!("trap: {what} in {frame}")))
}
