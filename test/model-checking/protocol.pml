/*
 * The protocol by which one of two copies of a volume is its primary: mirror link, arbiter's record, promotion and return,
 * under crashes, partitions, lost replies and late swaps. See docs/failover.md.
 *
 * generated/tables.pml has the decisions of the code. Here is what surrounds them: what is on disk and what is not, what is
 * on its way, and what may happen when. Nothing here knows of time: a timeout may come at any moment.
 *
 * Kept small by: two copies, at most EPOCHS epochs and WRITES writes, each to a place of its own; a copy's content is the set
 * of writes that it has. A resync copies at one moment, and a flush is one step. Not in it: several standbys, asynchronous
 * mirrors. Both are in test/simulation.
 *
 * With FORCE someone may once accept a loss: he switches the primary off, orders the promotion of a copy that may miss writes,
 * naming the epochs of which he gives something up, and switches the old primary on again whenever he likes; and he may look at
 * what only that has, and give it up. With DROP a primary may drop its mirror, and take it on again.
 *
 * Checked:
 *   invariant 1  what has been flushed is on the disk of a copy that counts as in sync
 *   invariant 5  no two copies acknowledge in one epoch; and what one of an older epoch still acknowledges then, because a
 *                reply came late, the newer one began with
 *   invariant 6  who becomes the primary, and who acknowledges, has every write that was acknowledged, unless it was never
 *                flushed and the machine of the primary that acknowledged it has gone down
 *
 *   with FORCE   nothing is lost but what was acknowledged in the epochs that the order named; the primary that was given up
 *                acknowledges nothing once it has heard of a newer epoch, and what it has acknowledged stays on it until somebody
 *                gives that up
 *
 * Built with one of these it is wrong, and the checker must say so:
 *   BROKEN_TIMEOUT  a primary goes on alone when the arbiter does not answer
 *   BROKEN_SWAP     a swap that arrives late is made, whatever was swapped before it
 *   BROKEN_PREPARE  a standby that has been prepared goes on listening to its primary
 *   BROKEN_CLEAN    a standby that ended uncleanly is promoted
 *   BROKEN_GATE     a primary that restarts does not wait for its standby
 *   BROKEN_CONFIRM  a standby confirms what it has not synced
 *   BROKEN_RETURN   (FORCE) a copy that was given up returns as a standby like any other
 *   BROKEN_FENCE    (FORCE) a primary that hears of a newer epoch goes on
 *   BROKEN_DROP     (DROP) a mirror is dropped without the arbiter having marked it
 * With REACH it asserts that a volume never moves to the other copy and back under writes, or, with FORCE, that nothing is lost
 * by force when it has moved before; each must fail as well.
 */
#include "generated/tables.pml"

#ifndef WRITES
#define WRITES 2
#endif
#define ALL_WRITES ((1 << WRITES) - 1)

#define STANDBY 0
#define PRIMARY 1

typedef Copy {
  /* The record on its disk. */
  bit role;
  unsigned epoch : 2;
  unsigned prepared : 2;
  bit clean;
  bit consistent;
  bit running;
  unsigned dataEpoch : 2;
  bit wasNeeded;
  /* Its content: on stable storage, and in the page cache of its machine. */
  unsigned disk : WRITES;
  unsigned cache : WRITES;
  /* The agent. One that is down does nothing; so one that does nothing may be down, and a restart is one step. */
  /* As a standby: a link of the other one is open here. */
  bit session;
  /* As a primary: the state of its machine; no I/O yet; a write that waits for the standby, and whether it has been sent. */
  byte machine;
  bit gate;
  unsigned pending : WRITES;
  bit sent;
  /* A swap of its question is on its way: 1 if nobody has swapped since it read the record, 2 if somebody has. */
  unsigned swap : 2;
  /* One that it has given up on, and that may still arrive: what it would say. */
  unsigned late : 2;
#ifdef FORCE
  /* It is switched off. */
  bit off;
  /* As a primary: it has been told of a newer epoch. */
  bit knows;
  /* It was given up; the writes that it has acknowledged, until somebody gives up what only it has. */
  bit divergent;
  bit discarded;
  unsigned own : WRITES;
#endif
#ifdef DROP
  bit dropping;
#endif
}

Copy copy[2];

/* The arbiter's record. */
unsigned recordEpoch : 2 = 1;
bit recordNode = 0;
bit recordInSync = 0;
/* Which node was given an epoch; orders of the operator may arrive late. */
bit given[EPOCHS + 1];

/* The operator between prepare and swap: what it was told, and whether the record is still the one that it has read. */
bit operatorReads;
bit operatorNode;
unsigned operatorEpoch : 2;
bit operatorOk;
#ifdef FORCE
/* Whether the copy could be promoted by an order, and of which epoch its data is. */
bit operatorConsistent;
unsigned operatorData : 2;
/* The promotion that accepted a loss; 0: none yet. */
unsigned forcedEpoch : 2;
/* In which epoch each write was acknowledged. */
unsigned acknowledgedAt0 : 2;
unsigned acknowledgedAt1 : 2;
#endif

/* What clients know. */
unsigned written : WRITES;
unsigned acknowledged : WRITES;
unsigned flushed : WRITES;
unsigned acknowledgedIn : 2;
bit acknowledgedBy;

/* From a primary to the other copy, and back; of the newest connection. */
mtype = { WRITE, COPY, END, INSYNC, ACCEPTED, HELD, CONFIRMED, STALE };
chan link0 = [4] of { mtype, byte };
chan link1 = [4] of { mtype, byte };
chan back0 = [3] of { mtype, byte };
chan back1 = [3] of { mtype, byte };

hidden byte chosen;
hidden byte todo;
hidden mtype kind;
hidden byte value;

#define me copy[n]
#define peer copy[1 - n]
#define C_ME now.copy[PAgent->n]

#define PHASE(name) c_expr { phase_of[C_ME.machine] == PHASE_##name }
#define NEEDED c_expr { is_needed[C_ME.machine] }
#define ASKING(what) c_expr { asking_of[C_ME.machine] == ASKING_##what }
#define STREAMING c_expr { phase_of[C_ME.machine] == PHASE_CONFIRMING || phase_of[C_ME.machine] == PHASE_IN_SYNC }
#define FORWARDING (STREAMING || PHASE(RESYNCING))
#ifdef FORCE
#define OFF (me.off)
#define DIVERGENT(node) (copy[node].divergent)
#define RETURNS(node) (!copy[node].divergent || copy[node].discarded)
#else
#define OFF 0
#define DIVERGENT(node) 0
#define RETURNS(node) 1
#endif
#define SERVING (me.role == PRIMARY && !PHASE(FENCED) && !OFF)

inline empty_channel(channel) {
  do
  :: len(channel) > 0 -> channel ? kind, value
  :: len(channel) == 0 -> break
  od
}

/* A write is complete for whoever has issued it. */
inline acknowledge(w) {
  if
#ifdef FORCE
  :: me.divergent ->
    assert(!me.knows);
    if :: !me.discarded -> me.own = me.own | w :: else fi
#endif
  :: !DIVERGENT(n) && me.epoch >= acknowledgedIn ->
    assert(me.epoch > acknowledgedIn || acknowledgedBy == n);
    acknowledgedIn = me.epoch;
    acknowledgedBy = n;
    acknowledged = acknowledged | w;
#ifdef FORCE
    if :: w & 1 -> acknowledgedAt0 = me.epoch :: else fi;
    if :: w & 2 -> acknowledgedAt1 = me.epoch :: else fi;
#endif
    assert((acknowledged & ~me.cache) == 0)
  :: else ->
    /* The reply that the standby held it came late: the standby, which is the primary now, began with it. */
    assert((w & ~copy[acknowledgedBy].cache) == 0);
    acknowledged = acknowledged | w
  fi;
#if defined(REACH) && !defined(FORCE)
  assert(!(acknowledgedIn == 3 && given[2] == 1 && acknowledgedBy == 0 && acknowledged == ALL_WRITES))
#endif
}

/* The link of this primary is down, for all that it knows; what it has sent may still be read at the other end. */
inline hang_up() {
  empty_channel(back);
  me.sent = 0;
  if
  :: me.pending && !NEEDED -> acknowledge(me.pending); me.pending = 0
  :: else
  fi
}

#ifdef FORCE
#define KNOWS me.knows = 1
#define KEPT assert((me.own & ~me.cache) == 0)

/* Someone has looked at what only it has. */
inline discard(node) {
  assert((copy[node].own & ~copy[node].cache) == 0);
  copy[node].discarded = 1;
  copy[node].own = 0
}
#else
#define KNOWS skip
#define KEPT skip
#endif

/* The machine takes an event, and what follows from it is done. */
inline take(event) {
  chosen = event;
#if defined(FORCE) && defined(BROKEN_FENCE)
  if
  :: chosen == EVENT_STALE_EPOCH || chosen == EVENT_OUTDATED_REFUSED -> chosen = EVENT_OUTDATED_GRANTED
  :: else
  fi;
#endif
  c_code {
    todo = effects_of[C_ME.machine * EVENTS + chosen];
    C_ME.machine = next_state[C_ME.machine * EVENTS + chosen];
  };
  if :: todo & EFFECT_PERSIST -> c_code { C_ME.wasNeeded = is_needed[C_ME.machine]; } :: else fi;
  if :: todo & EFFECT_SEND_RESYNC_END -> link ! END, 0 :: else fi;
  if :: todo & EFFECT_SEND_IN_SYNC -> link ! INSYNC, me.epoch :: else fi;
  if
  :: (todo & EFFECT_RELEASE) && !(NEEDED && !STREAMING) ->
    me.gate = 0;
    if :: me.pending && !me.sent -> acknowledge(me.pending); me.pending = 0 :: else fi
  :: else
  fi;
  if :: todo & (EFFECT_DROP_LINK | EFFECT_FENCE) -> hang_up() :: else fi;
  /* Who waits gets an error. */
  if :: todo & EFFECT_FENCE -> me.pending = 0 :: else fi
}

/* Whoever has read the record before is too late. */
inline swapped() {
  if :: copy[0].swap -> copy[0].swap = 2 :: else fi;
  if :: copy[1].swap -> copy[1].swap = 2 :: else fi;
#ifndef BROKEN_SWAP
  copy[0].late = 0;
  copy[1].late = 0;
#endif
  operatorReads = 0
}

/* A copy that the record has in sync, and that says itself that it is clean, has on its disk what was flushed. */
inline check_synced(node) {
  assert(!(recordInSync && recordNode != node && copy[node].clean) || (flushed & ~copy[node].disk) == 0)
}

inline set_in_sync(yes) {
  /* Of the other copy of whoever asked, in the epoch of the record. */
  recordInSync = yes;
  check_synced(1 - n);
  swapped()
}

/* It is given up on before there is an answer; a swap that is on its way may still arrive. */
inline give_up_question(arrives) {
  if
  :: arrives -> c_code { chosen = asking_of[C_ME.machine]; }; me.late = chosen
  :: else
  fi;
  me.swap = 0
}

/* The link at which this standby listens ends; what has been received is applied. */
inline end_session() {
  me.session = 0;
  empty_channel(peerLink)
}

inline start() {
  me.pending = 0;
  me.sent = 0;
  me.session = 0;
  me.swap = 0;
  me.machine = FRESH_NOT_NEEDED;
  me.gate = 0;
#ifdef FORCE
  me.knows = 0;
#endif
#ifdef DROP
  me.dropping = 0;
#endif
  empty_channel(back);
  if
  :: me.role == STANDBY ->
    me.clean = me.clean && !me.running;
    me.running = 0
#ifndef BROKEN_GATE
  :: me.role == PRIMARY && me.wasNeeded ->
    me.machine = FRESH_NEEDED;
    me.gate = 1
#endif
  :: else
  fi
}

#define KILL start()
/* What was not synced is gone. Nobody promised more of what was not flushed, when the machine of its primary goes down. */
#ifdef FORCE
#define LOSE me.own = me.own & me.disk
#else
#define LOSE skip
#endif
#define CRASH me.cache = me.disk; LOSE; if :: acknowledgedBy == n && !DIVERGENT(n) -> acknowledged = flushed :: else fi; start()

proctype Agent(bit n; chan link; chan back; chan peerLink; chan peerBack) {
  do
  /* --- A client of the primary ------------------------------------------------------------------------------- */
  :: d_step { SERVING && !me.gate && me.pending == 0 && written != ALL_WRITES && len(link) < 4 ->
      /* The lowest that was not there yet. */
      chosen = written + 1;
      written = written | chosen;
      me.cache = me.cache | chosen;
      me.sent = 0;
      value = chosen;
      if :: FORWARDING -> link ! WRITE, value; me.sent = 1 :: else fi;
      if
      :: NEEDED -> me.pending = value
      :: else -> me.sent = 0; acknowledge(value)
      fi
    }
  :: d_step { SERVING && !me.gate && me.pending == 0 && flushed != acknowledged && acknowledgedBy == n && !NEEDED ->
      me.disk = me.cache; flushed = acknowledged }
  :: d_step { SERVING && !me.gate && me.pending == 0 && flushed != acknowledged && acknowledgedBy == n && NEEDED &&
      STREAMING && peer.session && len(link) == 0 ->
      me.disk = me.cache; peer.disk = peer.cache; flushed = acknowledged }

  /* --- The primary and its link ------------------------------------------------------------------------------ */
  :: d_step { SERVING && PHASE(CONNECTING) -> empty_channel(back); take(EVENT_CONNECTED) }
  :: d_step { SERVING && !PHASE(CONNECTING) -> take(EVENT_DISCONNECTED); hang_up() }
  :: d_step { SERVING && len(link) < 4 && len(back) > 0 ->
      back ? kind, value;
      if
      :: kind == ACCEPTED && PHASE(HANDSHAKING) -> take(EVENT_RESYNC_ACCEPTED)
      :: kind == CONFIRMED -> take(EVENT_CONFIRMED)
      :: kind == HELD && me.sent && me.pending == value -> me.sent = 0; me.pending = 0; acknowledge(value)
      :: kind == STALE -> KNOWS; take(EVENT_STALE_EPOCH)
      :: else
      fi
    }
  :: d_step { SERVING && PHASE(RESYNCING) && len(link) < 3 -> link ! COPY, me.cache; take(EVENT_COPIED) }
  :: d_step { SERVING && !STREAMING && NEEDED && ASKING(NOTHING) -> take(EVENT_AWAY) }
  :: d_step { SERVING && NEEDED && ASKING(NOTHING) && !PHASE(CONNECTING) -> take(EVENT_OVERDUE); hang_up() }

  /* --- The primary and the arbiter --------------------------------------------------------------------------- */
  :: d_step { SERVING && !ASKING(NOTHING) && me.swap == 0 ->
      c_code { chosen = DECISION(now.recordEpoch, now.recordNode, PAgent->n, C_ME.epoch); };
      if
      :: chosen == DECISION_SWAP -> me.swap = 1
      :: chosen == DECISION_REFUSED && ASKING(OUTDATED) -> KNOWS; take(EVENT_OUTDATED_REFUSED)
      :: chosen == DECISION_REFUSED && ASKING(IN_SYNC) -> KNOWS; take(EVENT_IN_SYNC_REFUSED)
      :: else -> skip
      fi
    }
  /* Its swap is made, and the reply arrives, or is lost. */
  :: d_step { SERVING && ASKING(OUTDATED) && me.swap == 1 -> me.swap = 0; set_in_sync(0); take(EVENT_OUTDATED_GRANTED) }
  :: d_step { SERVING && ASKING(OUTDATED) && me.swap == 1 -> me.swap = 0; set_in_sync(0); take(EVENT_OUTDATED_UNREACHABLE) }
  :: d_step { SERVING && ASKING(IN_SYNC) && me.swap == 1 && len(link) < 4 ->
      me.swap = 0; set_in_sync(1); take(EVENT_IN_SYNC_GRANTED) }
  :: d_step { SERVING && ASKING(IN_SYNC) && me.swap == 1 -> me.swap = 0; set_in_sync(1); take(EVENT_IN_SYNC_UNREACHABLE) }
  /* The arbiter cannot be reached, or another swap came first. */
#ifdef BROKEN_TIMEOUT
  :: d_step { SERVING && ASKING(OUTDATED) -> give_up_question(0); take(EVENT_OUTDATED_GRANTED) }
#endif
  :: d_step { SERVING && ASKING(OUTDATED) -> give_up_question(0); take(EVENT_OUTDATED_UNREACHABLE) }
  :: d_step { SERVING && ASKING(IN_SYNC) -> give_up_question(0); take(EVENT_IN_SYNC_UNREACHABLE) }
  :: d_step { SERVING && ASKING(OUTDATED) && me.swap == 1 -> give_up_question(1); take(EVENT_OUTDATED_UNREACHABLE) }
  :: d_step { SERVING && ASKING(IN_SYNC) && me.swap == 1 -> give_up_question(1); take(EVENT_IN_SYNC_UNREACHABLE) }
  :: d_step { me.late -> value = me.late; me.late = 0; set_in_sync(value == ASKING_IN_SYNC) }

  /* --- The standby and its link ------------------------------------------------------------------------------ */
  :: d_step { !OFF && peer.role == PRIMARY && c_expr { phase_of[now.copy[1 - PAgent->n].machine] == PHASE_HANDSHAKING } &&
      len(peerBack) == 0 ->
      c_code { chosen = ADMISSION(C_ME.role, C_ME.epoch, C_ME.prepared, now.copy[1 - PAgent->n].epoch); };
      if
      :: chosen == ADMISSION_ADMITTED ->
        end_session();
        me.epoch = peer.epoch;
        me.session = 1;
        me.running = 1;
        me.clean = 0;
        me.consistent = 0;
        me.dataEpoch = peer.epoch;
        peerBack ! ACCEPTED, 0
      :: chosen == ADMISSION_STALE_EPOCH -> peerBack ! STALE, 0
      :: else
      fi
    }
  :: d_step { !OFF && me.session && len(peerLink) > 0 && len(peerBack) < 3 ->
      peerLink ? kind, value;
      if
      :: kind == WRITE -> me.cache = me.cache | value; chosen = HELD
      :: kind == COPY -> me.cache = value; KEPT; chosen = 0
      :: kind == END ->
#ifndef BROKEN_CONFIRM
        me.disk = me.cache;
#endif
        chosen = CONFIRMED; value = 0
      :: kind == INSYNC -> me.consistent = 1; me.clean = 1; me.dataEpoch = value; check_synced(n); chosen = 0
      fi;
      /* Nobody hears it where the primary has hung up. */
      if
      :: chosen && c_expr { phase_of[now.copy[1 - PAgent->n].machine] > PHASE_HANDSHAKING } ->
        if :: chosen == HELD -> peerBack ! HELD, value :: else -> peerBack ! CONFIRMED, 0 fi
      :: else
      fi
    }

  /* --- Orders of the operator; each may come late, and again -------------------------------------------------- */
  :: d_step { !OFF && me.role == STANDBY && recordNode != n && recordEpoch < EPOCHS && me.epoch < EPOCHS ->
      /* Above everything that is known, or the epoch that it has been prepared for. */
      chosen = recordEpoch;
      if :: me.epoch > chosen -> chosen = me.epoch :: else fi;
      if
      :: me.prepared > chosen -> chosen = me.prepared
      :: me.prepared == chosen && me.prepared > me.epoch && me.prepared > recordEpoch
      :: else -> chosen = chosen + 1
      fi;
      me.prepared = chosen;
#ifndef BROKEN_PREPARE
      end_session();
#endif
      me.disk = me.cache;
      me.running = 0;
      operatorNode = n;
      operatorEpoch = chosen;
      operatorReads = 1;
#ifdef FORCE
      operatorConsistent = me.consistent && me.dataEpoch > 0;
      operatorData = me.dataEpoch;
#endif
#ifdef BROKEN_CLEAN
      operatorOk = 1
#else
      operatorOk = me.clean && me.consistent && me.dataEpoch == recordEpoch
#endif
    }
  /* PUT: it is the primary. */
  :: d_step { !OFF && me.role == STANDBY && me.prepared > me.epoch && me.prepared <= recordEpoch && given[me.prepared] == n &&
#if defined(FORCE)
      /* An order that accepts a loss stands for clean. */
      c_expr { CHANGE(STANDBY, C_ME.epoch, C_ME.prepared, C_ME.clean || C_ME.prepared == now.forcedEpoch, C_ME.consistent, PRIMARY, C_ME.prepared) } ->
#elif defined(BROKEN_CLEAN)
      c_expr { CHANGE(STANDBY, C_ME.epoch, C_ME.prepared, 1, 1, PRIMARY, C_ME.prepared) } ->
#else
      c_expr { CHANGE(STANDBY, C_ME.epoch, C_ME.prepared, C_ME.clean, C_ME.consistent, PRIMARY, C_ME.prepared) } ->
#endif
      end_session();
      me.role = PRIMARY;
      me.epoch = me.prepared;
      me.wasNeeded = 0;
      me.disk = me.cache;
      start();
      assert((acknowledged & ~me.cache) == 0)
    }
  /* PUT: it is a standby of a newer epoch. */
  :: d_step { !OFF && me.role == PRIMARY && me.epoch < recordEpoch && recordNode != n &&
#ifndef BROKEN_RETURN
      RETURNS(n) &&
#endif
      c_expr { CHANGE(PRIMARY, C_ME.epoch, C_ME.prepared, C_ME.clean, C_ME.consistent, STANDBY, now.recordEpoch) } ->
      me.disk = me.cache;
      me.role = STANDBY;
      me.dataEpoch = me.epoch;
      me.epoch = recordEpoch;
      me.prepared = 0;
      me.clean = 0;
      me.consistent = 1;
      me.running = 0;
      me.wasNeeded = 0;
#ifdef FORCE
      me.divergent = 0;
#endif
      start()
    }
  /* PUT: the same primary has a newer epoch; its link is made anew. */
  :: d_step { SERVING && me.epoch < recordEpoch && recordNode == n &&
      c_expr { CHANGE(PRIMARY, C_ME.epoch, C_ME.prepared, C_ME.clean, C_ME.consistent, PRIMARY, now.recordEpoch) } ->
      me.epoch = recordEpoch;
      give_up_question(0);
      if :: NEEDED -> chosen = FRESH_NEEDED :: else -> chosen = FRESH_NOT_NEEDED fi;
      me.machine = chosen;
      hang_up()
    }

#ifdef DROP
  /* --- The mirror is dropped: not before the standby is marked, or was not needed; and is taken on again --------- */
  :: d_step { SERVING && ASKING(NOTHING) && !me.dropping && me.swap == 0 && NEEDED ->
      c_code { chosen = DECISION(now.recordEpoch, now.recordNode, PAgent->n, C_ME.epoch); };
      if
      :: chosen == DECISION_SWAP -> me.dropping = 1; me.swap = 1
      :: chosen == DECISION_REFUSED -> take(EVENT_STALE_EPOCH)
      :: else -> skip
      fi
    }
  :: d_step { SERVING && me.dropping && me.swap == 1 ->
      me.swap = 0; me.dropping = 0; set_in_sync(0);
      me.machine = FRESH_NOT_NEEDED; me.gate = 0; me.wasNeeded = 0; hang_up() }
  /* No answer, or the swap was overtaken: it stays what it is; one that is on its way may still arrive. */
  :: d_step { me.dropping -> me.dropping = 0; me.swap = 0 }
  :: d_step { me.dropping && me.swap == 1 -> me.dropping = 0; me.swap = 0; me.late = ASKING_OUTDATED }
#ifdef BROKEN_DROP
  :: d_step { SERVING && NEEDED && ASKING(NOTHING) ->
      me.machine = FRESH_NOT_NEEDED; me.gate = 0; me.wasNeeded = 0; hang_up() }
#endif
#endif

  /* --- What goes wrong --------------------------------------------------------------------------------------- */
  :: d_step { KILL }
  :: d_step { CRASH }
  :: d_step { me.swap == 1 -> give_up_question(1); KILL }
  :: d_step { me.swap == 1 -> give_up_question(1); CRASH }
  od
}

proctype Operator() {
  do
  :: d_step { operatorReads && operatorOk && recordInSync && operatorEpoch > recordEpoch ->
      recordEpoch = operatorEpoch;
      recordNode = operatorNode;
      recordInSync = 0;
      given[operatorEpoch] = operatorNode;
      swapped()
    }
#ifdef FORCE
  /* The order that accepts a loss: not before the primary is off. */
  :: d_step { forcedEpoch == 0 && operatorReads && !operatorOk && operatorEpoch > recordEpoch && !copy[recordNode].off &&
      copy[recordNode].role == PRIMARY -> copy[recordNode].off = 1 }
  :: d_step { forcedEpoch == 0 && operatorReads && operatorConsistent && operatorEpoch > recordEpoch &&
      recordNode != operatorNode && copy[recordNode].off && copy[recordNode].role == PRIMARY ->
      value = acknowledged & ~copy[operatorNode].cache;
      /* The epochs that the order has to name begin with that of the copy's data. */
      assert(!(value & 1) || acknowledgedAt0 >= operatorData);
      assert(!(value & 2) || acknowledgedAt1 >= operatorData);
#ifdef REACH
      assert(!(value && operatorEpoch == 3));
#endif
      copy[recordNode].divergent = 1;
      copy[recordNode].own = acknowledged & copy[recordNode].cache;
      acknowledged = acknowledged & copy[operatorNode].cache;
      flushed = flushed & copy[operatorNode].disk;
      forcedEpoch = operatorEpoch;
      recordEpoch = operatorEpoch;
      recordNode = operatorNode;
      recordInSync = 0;
      given[operatorEpoch] = operatorNode;
      swapped()
    }
  :: d_step { copy[0].off -> copy[0].off = 0 }
  :: d_step { copy[1].off -> copy[1].off = 0 }
  /* Someone has looked at what only it has. */
  :: d_step { copy[0].divergent && !copy[0].discarded -> discard(0) }
  :: d_step { copy[1].divergent && !copy[1].discarded -> discard(1) }
#endif
  /* A standby was prepared in vain: the primary gets the epoch after that. */
  :: d_step { copy[1 - recordNode].role == STANDBY && copy[1 - recordNode].prepared > recordEpoch &&
      copy[1 - recordNode].prepared < EPOCHS ->
      recordEpoch = copy[1 - recordNode].prepared + 1;
      recordInSync = 0;
      given[recordEpoch] = recordNode;
      swapped()
    }
  od
}

init {
  atomic {
    copy[0].role = PRIMARY;
    copy[0].epoch = 1;
    copy[0].consistent = 1;
    copy[1].role = STANDBY;
    copy[1].epoch = 1;
    copy[1].consistent = 1;
    run Agent(0, link0, back0, link1, back1);
    run Agent(1, link1, back1, link0, back0);
    run Operator()
  }
}
