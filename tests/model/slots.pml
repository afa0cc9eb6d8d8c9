/* SPDX-License-Identifier: MIT
 *
 * The slot protocol of src/queue/PROTOCOL.md, for spin. scripts/model runs it in the configurations that its table lists.
 *
 * HOW TO READ IT. Every step of a process is one atomic action of the program: one command or script in Redis, or what one thread does
 * between two of them; it names the code it stands for. A turn is modelled slot by slot, because each of its parts acts on a slot of its own.
 * Where something may come between a request's effect and its answer that matters (a claim, a BLMOVE), reading the answer is a step of its own;
 * elsewhere an answer that is lost is a step beside the one in which it is read.
 * A job is a small number, its payload: 1..JOBS, and AGAIN for job 1 in its second attempt.
 *
 * WHAT MAY GO WRONG, at any step, FAULTS times in a run:
 *   DIE      a worker is killed and started again under a new id
 *   STALL    a worker renews too late: it was stopped, suspended, or cut off. Its lease has run out, and it goes on where it was
 *   CUT      a connection breaks: what was sent has been carried out, and its answer is lost
 *   LATE     a connection breaks, or a worker dies, and what was sent is carried out at any later time: a settlement, a claim, a tick;
 *            LATE_WAIT: a BLMOVE. What is never carried out is as if it had not been sent
 *   RESTART  Redis is away for longer than all leases; requests and answers on their way are lost
 *   ROLLBACK likewise, and it comes back as it was at an earlier moment
 *   STOP     a worker is told to stop, leaves the list, and is started again
 *
 * WHAT IS CHECKED
 *   places   after every step in Redis: an accepted job is in exactly one of ready, delayed, one slot, or done (its result is written)
 *   twice    no result is written a second time. A producer may have taken the first one away (BLPOP), so RPUSH > 1 is no help here
 *   ended    where nothing more can happen, every job has its result, no slot is full, and only living workers are listed
 *   CALLS    a call is begun only while the slot holds the job
 *   ONCE     no payload is called a second time (where Redis restarts and nothing else happens)
 *   CYCLES   no run goes on for ever (pan -l)
 *
 * WHAT IS LEFT OUT, because it makes no difference here: the order of slots in a worker's free stack (any free slot may be next), crash
 * counts (the keeper may give up a job at any time), audio, reply lists and dead entries (written in the step that writes the result),
 * pauses. An own free slot that is full is seen sooner or later: by the audit, or because its claim was in doubt. Time is left out too: that all
 * workers which are well have renewed when a keeper's grace is over, and that a wait ends before the lease, is taken for granted.
 *
 * Rules are taken away, one at a time, by the names in the table of scripts/model: each NO_..., SPLIT_... and FILL_FIRST below.
 *
 * SMALLER: ALL_PUSHED (all jobs are there at the start), ALIKE, EAGER, ONE_LATE: see there. */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef JOBS
#define JOBS 3
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#ifndef IDS
#define IDS (WORKERS + FAULTS) /* worker ids: n < WORKERS is the present id of worker n, the others are former ones (base.generation) */
#endif
#define TASKS (WORKERS * SLOTS)
#define KEYS (IDS * SLOTS)
#define AGAIN (JOBS + 1)

#define JOB_OF(p) ((p) == AGAIN -> 1 : (p))
#define BIT(p) (1 << (p))
#define KEY(id, s) ((id) * SLOTS + (s))

/* --- Redis ----------------------------------------------------------------------------------------------------------------
 *
 * A list is a number of octal digits, its served end (ready: right, a slot: left) the lowest. A set of jobs or ids is a number of bits. */
int ready;
byte delayed;	   /* set of payloads; when they are due does not matter */
byte slot[KEYS];   /* slot:<id>:<n>; two jobs only after a wait was carried out late */
byte listed;	   /* workers: set of ids */
byte expired;	   /* of these, whose lease has run out */
byte done;	   /* set of jobs whose result has been written */
byte pushed;	   /* jobs 1..pushed were accepted */

/* --- Workers. ------------------------------------------------------------------------------------------------------------ */

mtype:task = {
	FREE,
	CLAIM,	 /* a turn has claimed into this slot, its answer is on its way */
	WAITING, /* its slot is named in a BLMOVE; where there is a job, the answer is on its way */
	STOCK,	 /* claimed, not begun */
	RESULT, LATER, BACK /* how it is to be settled: SETTLE_RESULT, SETTLE_LATER, SETTLE_BACK */
};

/* Task n of a worker is slot n: line_parts.h. */
mtype:task task[TASKS] = FREE;
byte job[TASKS];
byte under[TASKS];	  /* the id whose slot it is in; a former one where the lease was lost meanwhile (task.generation) */

bit registered[WORKERS]; /* keeper: charge.registered */
bit may_fill[WORKERS];	 /* line.listed */
bit holds[WORKERS];	 /* line.lease_until_ms is still to come */
bit drains[WORKERS];	 /* PHASE_DRAIN */
bit not_yet_back[WORKERS]; /* since Redis came back it has had no time to renew: within the grace of every keeper */

/* Requests on a dead connection, still to be carried out: by task, as the parts of a turn (which act on slots of their own) or a BLMOVE. */
mtype:task late[TASKS] = FREE;
byte late_job[TASKS], late_under[TASKS];
byte late_tick[WORKERS]; /* 0, or 1 + id; + 16: 'register' */

byte faults; /* so many have happened */
#ifdef SPLIT_STRIKE
byte striking; /* 1 + the id whose slots were found empty */
#endif
#ifdef ONCE
byte called;
#endif
#ifdef ROLLBACK
bit saved; /* Redis as it was when it last reached the disk */
int saved_ready;
byte saved_delayed, saved_slot[KEYS], saved_listed, saved_done, saved_pushed;
#endif

/* Not part of a state: only used within a step. */
hidden byte i, n, p, s, t, v, any;
hidden short sum;

/* --- What is checked after every step in Redis. --------------------------------------------------------------------------- */

#define COUNT(q) (1 << (3 * (JOB_OF(q) - 1)))

inline count(list)
{
	n = list;
	do
	:: n -> sum = sum + COUNT(n & 7); n = n >> 3
	:: else -> break
	od
}

/* ALIKE: nothing tells one job from another, so they are numbered in the order in which they are found; each state is then seen once. */
#ifdef ALIKE
hidden byte number[AGAIN];
#define RENUMBER(q) if :: (q) && !number[q] -> v++; number[q] = v :: else fi
inline renumber_all()
{
	v = 0;
	i = 1;
	do
	:: i <= JOBS -> number[i] = 0; i++
	:: else -> break
	od;
	i = 0;
	do
	:: i < KEYS ->
		if
		:: slot[i] -> RENUMBER(slot[i] & 7); RENUMBER(slot[i] >> 3)
		:: else
		fi;
		i++
	:: else -> break
	od;
	n = 0;
	do
	:: ready >> n -> RENUMBER((ready >> n) & 7); n = n + 3
	:: else -> break
	od;
	i = 0;
	do
	:: i < TASKS -> RENUMBER(job[i]); RENUMBER(late_job[i]); i++
	:: else -> break
	od;
	p = 0;
	i = 1;
	do
	:: i <= JOBS -> RENUMBER(i); p = p | (done & BIT(i) -> BIT(number[i]) : 0); i++
	:: else -> break
	od;
	done = p;
	i = 0;
	do
	:: i < KEYS ->
		if
		:: slot[i] -> slot[i] = number[slot[i] & 7] | (number[slot[i] >> 3] << 3)
		:: else
		fi;
		i++
	:: else -> break
	od;
	sum = 0;
	n = 0;
	do
	:: ready >> n -> sum = sum | (number[(ready >> n) & 7] << n); n = n + 3
	:: else -> break
	od;
	ready = sum;
	i = 0;
	do
	:: i < TASKS -> job[i] = number[job[i]]; late_job[i] = number[late_job[i]]; i++
	:: else -> break
	od;
	skip
}
#endif

inline places()
{
	sum = 0;
	count(ready & 63);
	count(ready >> 6);
	i = 0;
	do
	:: i < KEYS -> count(slot[i]); i++
	:: else -> break
	od;
	p = 1;
	do
	:: p <= AGAIN ->
		if
		:: delayed & BIT(p) -> sum = sum + COUNT(p)
		:: else
		fi;
		if
		:: done & BIT(p) -> sum = sum + COUNT(p)
		:: else
		fi;
		if
		:: p <= pushed -> sum = sum - COUNT(p)
		:: else
		fi;
		p++
	:: else -> break
	od;
	assert(sum == 0); /* places: each accepted job is in exactly one place */
#ifdef ALIKE
	renumber_all()
#else
	skip
#endif
}

/* --- Commands and parts of scripts. ---------------------------------------------------------------------------------------- */

/* RPUSH ready job: what goes back is served next. */
inline push_back(q)
{
	ready = (ready << 3) | (q)
}

/* LMOVE and BLMOVE ready slot RIGHT LEFT. */
inline move(k)
{
	assert(slot[k] < 8);
	slot[k] = (slot[k] << 3) | (ready & 7);
	ready = ready >> 3
}

#define IN(k, q) ((slot[k] & 7) == (q) || (slot[k] >> 3) == (q))

/* LREM slot 1 job */
inline take(k, q)
{
	slot[k] = ((slot[k] & 7) == (q) -> slot[k] >> 3 : (slot[k] >> 3 == (q) -> slot[k] & 7 : slot[k]))
}

inline write_result(q)
{
	assert(!(done & BIT(JOB_OF(q)))); /* twice: no result is written a second time */
	done = done | BIT(JOB_OF(q))
}

#if defined(NO_FENCE)
#define FENCE(k, q, how) (how == RESULT || IN(k, q))
#elif defined(NO_IDENTITY)
#define FENCE(k, q, how) (slot[k] != 0)
#else
#define FENCE(k, q, how) IN(k, q)
#endif

/* turn.lua settle(): if the slot holds that very job, it leaves it and goes where it shall. */
inline settle(k, q, how)
{
	if
	:: FENCE(k, q, how) ->
#ifdef NO_IDENTITY
		slot[k] = slot[k] >> 3;
#else
		take(k, q);
#endif
		if
		:: how == RESULT -> write_result(q)
		:: how == LATER -> delayed = delayed | BIT(AGAIN) /* with the attempt counted: another payload */
		:: how == BACK -> push_back(q)
		fi
	:: else /* fenced */
	fi
}

#ifdef NO_LISTING
#define LISTED(who) true
#else
#define LISTED(who) (listed & BIT(who))
#endif

/* tick.lua, the lease: it lasts while a worker has this id; where nobody will renew it, it may as well have run out already. */
#define OWNED(who) ((who) < WORKERS)
inline lease(who)
{
	listed = listed | BIT(who);
	expired = (OWNED(who) -> expired & ~BIT(who) : expired | BIT(who))
}

/* --- Steps of a worker. ---------------------------------------------------------------------------------------------------- */

#define T(s) (w * SLOTS + (s))
#define SETTLES(t) (task[t] == RESULT || task[t] == LATER || task[t] == BACK)
/* line_io.c may_claim() */
#ifdef FILL_FIRST
#define MAY_CLAIM (!drains[w] && (!registered[w] || holds[w]))
#else
#define MAY_CLAIM (may_fill[w] && holds[w] && !drains[w])
#endif
#define MORE(s) (USABLE(s) && (ready || slot[KEY(w, s)])) /* a claim would bring something */
/* Slots are alike: the second is only used where the first is not just the same. */
#define UNUSED(s) (task[T(s)] == FREE && slot[KEY(w, s)] == 0 && late[T(s)] == FREE)
#define USABLE(s) (task[T(s)] == FREE && (s == 0 || !UNUSED(0) || !UNUSED(s)))

#define EMPTY(who) (slot[KEY(who, 0)] == 0 && slot[KEY(who, SLOTS - 1)] == 0)
#define REFERS(t, s, who) (slot[KEY(who, s)] || (task[t] != FREE && under[t] == (who)) || (late[t] != FREE && late_under[t] == (who)))
#ifdef SPLIT_STRIKE
#define STRIKING(who) (striking == (who) + 1)
#define STRIKING_MOVES(from, to) striking = (striking == (from) + 1 -> (to) + 1 : striking);
#else
#define STRIKING(who) false
#define STRIKING_MOVES(from, to)
#endif
#ifdef ROLLBACK
#define SAVED(who) ((saved_listed & BIT(who)) || saved_slot[KEY(who, 0)] || saved_slot[KEY(who, SLOTS - 1)])
#else
#define SAVED(who) false
#endif

#ifdef NO_GRACE
#define GRACE_OVER true
#else
#define GRACE_OVER (!not_yet_back[0] && !not_yet_back[1]) /* keeper.c reap_from_ms: all that are well have renewed by then */
#endif

/* EAGER, where nothing is late: a former id whose slots are empty will stay so, and when it is struck off makes no difference. */
inline strike_empty(who)
{
#ifdef EAGER
	if
	:: EMPTY(who) && (who) >= WORKERS && GRACE_OVER -> listed = listed & ~BIT(who); expired = expired & ~BIT(who)
	:: else
	fi
#else
	skip
#endif
}

inline clear(t)
{
	task[t] = FREE;
	job[t] = 0;
	under[t] = 0
}

/* Worker w goes on under a name never seen. What is left of the present one gets a number of its own, the first to which nothing refers. */
inline new_id(w)
{
	any = (listed & BIT(w)) != 0;
	s = 0;
	do
	:: s < SLOTS -> any = any || REFERS(T(s), s, w); s++
	:: else -> break
	od;
	any = any || (late_tick[w] & 15) == w + 1 || STRIKING(w);
	v = IDS;
	do
	:: any ->
		v = WORKERS;
		do
		:: v < IDS ->
			any = SAVED(v) || (listed & BIT(v)) || STRIKING(v);
			i = 0;
			do
			:: i < TASKS -> any = any || REFERS(i, i % SLOTS, v); i++
			:: else -> break
			od;
			i = 0;
			do
			:: i < WORKERS -> any = any || (late_tick[i] & 15) == v + 1; i++
			:: else -> break
			od;
			if
			:: any -> v++
			:: else -> break
			fi
		:: else -> break
		od;
		assert(v < IDS);
		break
	:: else -> break
	od;
	if
	:: v < IDS ->
		s = 0;
		do
		:: s < SLOTS ->
			t = T(s);
			slot[KEY(v, s)] = slot[KEY(w, s)];
			slot[KEY(w, s)] = 0;
			under[t] = (task[t] != FREE && under[t] == w -> v : under[t]);
			late_under[t] = (late[t] != FREE && late_under[t] == w -> v : late_under[t]);
			s++
		:: else -> break
		od;
		listed = (listed & BIT(w) -> (listed & ~BIT(w)) | BIT(v) : listed);
		expired = (listed & BIT(v) -> (expired & ~BIT(w)) | BIT(v) : expired);
		late_tick[w] = ((late_tick[w] & 15) == w + 1 -> late_tick[w] - w + v : late_tick[w]);
		STRIKING_MOVES(w, v)
		printf("(worker %d: what is left of its id is now called %d)\n", w, v);
		strike_empty(v)
	:: else
	fi
}

/* line.c line_hand_back_all(stock_empty()): what has not begun. Also what is still on its way here, when that is read (line_holds()). */
inline hand_back(w, on_its_way)
{
	s = 0;
	do
	:: s < SLOTS ->
		if
		:: task[T(s)] == STOCK || (on_its_way && (task[T(s)] == CLAIM || task[T(s)] == WAITING) && job[T(s)]) -> task[T(s)] = BACK
		:: else
		fi;
		s++
	:: else -> break
	od;
	skip /* a d_step may not end with a loop */
}

/* Whether an answer that is on its way is a state of its own. Only a restart, or a rule that is taken away, makes a difference between that and
 * the job being here; a broken connection is a step of its own. */
#if defined(RESTART) || defined(NO_SENT_LEASE)
#define ASKED(before, after) before
#else
#define ASKED(before, after) after
#endif

/* turn.lua, the claims, for one slot; one that is full keeps what it holds, and that is the answer. line_turn.c line_take_turn() */
inline claim(w, s)
{
	if
	:: LISTED(w) ->
		if
		:: slot[KEY(w, s)] == 0 -> move(KEY(w, s))
		:: else
		fi;
		task[T(s)] = ASKED(CLAIM, STOCK);
		under[T(s)] = w;
		job[T(s)] = slot[KEY(under[T(s)], s)] & 7;
		printf("worker %d: claims job %d into slot %d.%d\n", w, job[T(s)], w, s);
		places()
	:: else ->
		printf("worker %d: may not claim: not listed\n", w);
		may_fill[w] = 0 /* CLAIM_UNLISTED: keeper.c on_unlisted() */
	fi
}

/* line_turn.c after_claim() */
inline read_claim(w, s)
{
	task[T(s)] = STOCK;
	printf("worker %d: reads that slot %d.%d has job %d\n", w, under[T(s)], s, job[T(s)])
}

/* turn.lua settle(), for one slot. */
inline carry_out(w, s)
{
	printf("worker %d: settles job %d by %e in slot %d.%d, which holds %o\n", w, job[T(s)], task[T(s)], under[T(s)], s, slot[KEY(under[T(s)], s)]);
	settle(KEY(under[T(s)], s), job[T(s)], task[T(s)]);
	places()
}

/* line_io.c begin_wait() */
inline begin_wait(w, s)
{
	task[T(s)] = WAITING;
	under[T(s)] = w;
	printf("worker %d: BLMOVE into slot %d.%d begins\n", w, w, s)
}

/* Redis serves the wait. */
inline serve_wait(w, s)
{
	job[T(s)] = ready & 7;
	move(KEY(under[T(s)], s));
	task[T(s)] = ASKED(WAITING, (MAY_CLAIM -> STOCK : BACK));
	printf("worker %d: redis: BLMOVE brings job %d into slot %d.%d\n", w, job[T(s)], under[T(s)], s);
	places()
}

/* line_io.c take_waited() */
inline take_waited(w, s)
{
	task[T(s)] = (MAY_CLAIM -> STOCK : BACK);
	printf("worker %d: answer of BLMOVE read: job %d to %e\n", w, job[T(s)], task[T(s)])
}

/* runner.c run_task(): line_holds(), then the call. That it takes time makes no difference: what is done with it then comes later. */
inline begin_call(w, s, how)
{
	if
	:: drains[w] || !holds[w] || under[T(s)] != w -> task[T(s)] = BACK
	:: else ->
		printf("worker %d: calls for job %d in slot %d.%d\n", w, job[T(s)], under[T(s)], s);
#ifdef CALLS
		assert(IN(KEY(under[T(s)], s), job[T(s)])); /* CALLS: the slot holds the job when its call begins */
#endif
#ifdef ONCE
		assert(!(called & BIT(job[T(s)]))); /* ONCE: no payload is called a second time */
		called = called | BIT(job[T(s)]);
#endif
		task[T(s)] = how
	fi
}

/* What is on its way counts as not begun where a task has the lease under which it was asked for, not that under which the answer was read. */
#ifdef NO_SENT_LEASE
#define ON_ITS_WAY 0
#else
#define ON_ITS_WAY 1
#endif

/* keeper.c tick() with tick.lua, and what follows from its answer. */
inline tick(w)
{
	not_yet_back[w] = 0;
	if
	:: !registered[w] || (listed & BIT(w)) ->
#ifdef NO_OWN_CLOCK
		any = registered[w] && (expired & BIT(w)) != 0; /* as tick.lua tells */
#else
		any = registered[w] && !holds[w]; /* by the worker's own clock, so that a lost answer cannot hide it */
#endif
		printf("worker %d: tick renews its lease, late: %d\n", w, any);
		lease(w);
		if
		:: any -> hand_back(w, ON_ITS_WAY) /* keeper.c lapsed(), line.c line_lease_lapsed() */
		:: else
		fi;
		registered[w] = 1;
		may_fill[w] = 1;
		holds[w] = 1
	:: else -> /* struck: keeper.c struck_off(), line.c line_lease_lost() */
		printf("worker %d: was struck off, goes on under a new id\n", w);
		registered[w] = 0;
		may_fill[w] = 0;
		holds[w] = 0;
		new_id(w);
		hand_back(w, 1)
	fi
}
/* A round that would change something; while it drains, an id that is not listed is left so. */
#define TICK_MATTERS (drains[w] -> registered[w] && (listed & BIT(w)) && (expired & BIT(w)) : \
	!registered[w] || !holds[w] || !may_fill[w] || !(listed & BIT(w)) || (expired & BIT(w)))

inline start_again(w)
{
	registered[w] = 0;
	may_fill[w] = 0;
	holds[w] = 0;
	drains[w] = 0;
	not_yet_back[w] = 0;
	expired = expired | (listed & BIT(w));
	new_id(w)
}

/* --- Nature. ----------------------------------------------------------------------------------------------------------------- */

/* What was sent and is not yet carried out. */
inline leave_late(w, s, how)
{
	t = T(s);
	late[t] = how;
	printf("NATURE: %e of worker %d for slot %d.%d stays on the wire\n", late[t], w, (task[t] == FREE -> w : under[t]), s);
	late_under[t] = (task[t] == FREE -> w : under[t]);
	late_job[t] = job[t]
}

/* line_io.c line_lose_a(): claims are in doubt. lose_b(): so is the wait. */
inline lose(w, what)
{
	s = 0;
	do
	:: s < SLOTS ->
		if
		:: task[T(s)] == what -> t = T(s); clear(t)
		:: else
		fi;
		s++
	:: else -> break
	od;
	skip
}

inline die(w)
{
	printf("NATURE: worker %d is killed and started again\n", w);
	s = 0;
	do
	:: s < SLOTS -> t = T(s); clear(t); s++
	:: else -> break
	od;
	start_again(w)
}

/* Redis has ended a wait by then: it is never longer than the lease. */
inline stall(w)
{
	printf("NATURE: worker %d renews too late\n", w);
	s = 0;
	do
	:: s < SLOTS ->
		if
		:: task[T(s)] == WAITING && !job[T(s)] -> t = T(s); clear(t)
		:: else
		fi;
		s++
	:: else -> break
	od;
	holds[w] = 0;
	not_yet_back[w] = 0;
	expired = expired | (listed & BIT(w))
}

inline away(w)
{
	lose(w, CLAIM);
	lose(w, WAITING);
	holds[w] = 0;
	late_tick[w] = 0;
	not_yet_back[w] = (registered[w] && (listed & BIT(w)) != 0)
}

inline restart()
{
	printf("NATURE: redis restarts\n");
	expired = listed;
	away(0);
	away(1);
	i = 0;
	do
	:: i < TASKS -> late[i] = FREE; late_job[i] = 0; late_under[i] = 0; i++
	:: else -> break
	od;
	skip
}

#ifdef ROLLBACK
inline save()
{
	printf("NATURE: what Redis holds now has reached the disk\n");
	saved = 1;
	saved_ready = ready;
	saved_delayed = delayed;
	i = 0;
	do
	:: i < KEYS -> saved_slot[i] = slot[i]; i++
	:: else -> break
	od;
	saved_listed = listed;
	saved_done = done;
	saved_pushed = pushed
}

inline roll_back()
{
	printf("NATURE: what was done since has been lost\n");
	ready = saved_ready;
	delayed = saved_delayed;
	i = 0;
	do
	:: i < KEYS -> slot[i] = saved_slot[i]; saved_slot[i] = 0; i++
	:: else -> break
	od;
	listed = saved_listed;
	done = saved_done;
	pushed = saved_pushed;
	saved = 0;
	saved_ready = 0;
	saved_delayed = 0;
	saved_listed = 0;
	saved_done = 0;
	saved_pushed = 0
}
#endif

/* ONE_LATE: no more than one request at a time. */
#ifdef ONE_LATE
#define WIRE_FREE(s) (late[0] == FREE && late[1] == FREE && late[TASKS - 2] == FREE && late[TASKS - 1] == FREE && !late_tick[0] && !late_tick[1])
#else
#define WIRE_FREE(s) (late[T(s)] == FREE)
#endif

/* The workers are alike: the first fault of one worker is always worker 0's. */
#define MAY_FAIL (faults < FAULTS && (faults > 0 || w == 0))

#ifdef DIE
#define BY_DIE \
	:: d_step { MAY_FAIL && STARTED -> faults++; die(w) }
#else
#define BY_DIE
#endif
#ifdef STALL
#define BY_STALL \
	:: d_step { MAY_FAIL && (holds[w] || not_yet_back[w] || (listed & BIT(w) & ~expired)) -> faults++; stall(w) }
#else
#define BY_STALL
#endif
#ifdef CUT
#define BY_CUT \
	:: d_step { MAY_FAIL && TICK_MATTERS && (!registered[w] || (listed & BIT(w))) -> \
		faults++; printf("NATURE: worker %d: tick is carried out, its answer is lost\n", w); \
		lease(w); not_yet_back[w] = 0 }
/* line_io.c line_lose_a() in mid-claim and in mid-settlement, lose_b(): the slot is in doubt, or its turn is sent again. */
#define BY_CUT_SLOT(s) \
	:: d_step { MAY_FAIL && MAY_CLAIM && MORE(s) && LISTED(w) -> \
		faults++; printf("NATURE: the next answer is lost\n"); claim(w, s); clear(T(s)) } \
	:: d_step { MAY_FAIL && task[T(s)] == WAITING && !job[T(s)] && ready -> \
		faults++; printf("NATURE: the next answer is lost\n"); serve_wait(w, s); clear(T(s)) } \
	:: d_step { MAY_FAIL && SETTLES(T(s)) -> faults++; printf("NATURE: the next answer is lost\n"); carry_out(w, s) }
#else
#define BY_CUT
#define BY_CUT_SLOT(s)
#endif
#ifdef LATE
#define BY_LATE \
	:: d_step { MAY_FAIL && !late_tick[w] && WIRE_FREE(0) && TICK_MATTERS -> \
		faults++; printf("NATURE: tick of worker %d stays on the wire\n", w); \
		late_tick[w] = 1 + w + (registered[w] -> 0 : 16) }
#define BY_LATE_SLOT(s) \
	:: d_step { MAY_FAIL && SETTLES(T(s)) && WIRE_FREE(s) -> faults++; leave_late(w, s, task[T(s)]) } \
	:: d_step { MAY_FAIL && MAY_CLAIM && MORE(s) && WIRE_FREE(s) -> faults++; leave_late(w, s, CLAIM) } \
	BY_LATE_DIE(s)
#ifdef DIE
#define BY_LATE_DIE(s) \
	:: d_step { MAY_FAIL && SETTLES(T(s)) && WIRE_FREE(s) -> faults++; leave_late(w, s, task[T(s)]); die(w) } \
	:: d_step { MAY_FAIL && MAY_CLAIM && MORE(s) && WIRE_FREE(s) -> faults++; leave_late(w, s, CLAIM); die(w) }
#else
#define BY_LATE_DIE(s)
#endif
#else
#define BY_LATE
#define BY_LATE_SLOT(s)
#endif
#ifdef LATE_WAIT
#define BY_LATE_WAIT(s) \
	:: d_step { MAY_FAIL && task[T(s)] == WAITING && !job[T(s)] && WIRE_FREE(s) -> faults++; leave_late(w, s, WAITING); lose(w, WAITING) } \
	BY_LATE_WAIT_DIE(s)
#ifdef DIE
#define BY_LATE_WAIT_DIE(s) \
	:: d_step { MAY_FAIL && task[T(s)] == WAITING && !job[T(s)] && WIRE_FREE(s) -> faults++; leave_late(w, s, WAITING); die(w) }
#else
#define BY_LATE_WAIT_DIE(s)
#endif
#else
#define BY_LATE_WAIT(s)
#endif
#ifdef STOP
#define BY_STOP \
	:: d_step { MAY_FAIL && registered[w] && !drains[w] -> \
		faults++; printf("worker %d is told to stop\n", w); drains[w] = 1; hand_back(w, 0) }
#else
#define BY_STOP
#endif

/* A worker that has done nothing yet need not die. */
#define STARTED (registered[w] || (listed & BIT(w)) || task[T(0)] != FREE || task[T(SLOTS - 1)] != FREE)
#if SLOTS > 1
#define SLOT1(step) step(1)
#else
#define SLOT1(step)
#endif
#define EACH_SLOT(step) step(0) SLOT1(step)

#ifdef RETRY
#define RETRIED(s) \
	:: d_step { task[T(s)] == STOCK && job[T(s)] == 1 -> begin_call(w, s, LATER) } /* runner.c retry() */
#else
#define RETRIED(s)
#endif
#define TURN(s) \
	:: d_step { MAY_CLAIM && MORE(s) -> claim(w, s) } \
	:: d_step { task[T(s)] == CLAIM -> read_claim(w, s) } \
	:: d_step { SETTLES(T(s)) -> carry_out(w, s); clear(T(s)) } /* line.c line_finish_task() */
#define POOL(s) \
	:: d_step { task[T(s)] == STOCK -> begin_call(w, s, RESULT) } /* runner.c finish() */ \
	RETRIED(s)
#ifdef NO_WAIT_AUDIT
#define WAIT_AUDIT(s)
#else
#define WAIT_AUDIT(s) \
	:: d_step { task[T(s)] == WAITING && job[T(s)] == 0 && slot[KEY(under[T(s)], s)] -> clear(T(s)) }
#endif
/* A wait is begun where the last look found ready empty; a slot that is in doubt or was seen full is claimed before (line.adopt). */
#define WAIT(s) \
	WAIT_AUDIT(s) /* the slot of a wait may be filled by an earlier wait: the audit looks there too, and ends the wait */ \
	:: d_step { MAY_CLAIM && !ready && USABLE(s) && slot[KEY(w, s)] == 0 && NO_WAIT -> begin_wait(w, s) } \
	:: d_step { task[T(s)] == WAITING && job[T(s)] == 0 && ready -> serve_wait(w, s) } \
	:: d_step { task[T(s)] == WAITING && job[T(s)] -> take_waited(w, s) } \
	:: d_step { task[T(s)] == WAITING && job[T(s)] == 0 && !MAY_CLAIM -> clear(T(s)) } /* line_io.c end_wait() */
/* line_io.c leave(), reap.c reap_own(): all tasks are settled; jobs that are found all the same go back. */
#define OWN(s) \
	:: d_step { drains[w] && IDLE && slot[KEY(w, s)] -> \
		printf("worker %d: leaves, job in slot %d.%d put back\n", w, w, s); \
		push_back(slot[KEY(w, s)] & 7); slot[KEY(w, s)] = slot[KEY(w, s)] >> 3; places() }

#if SLOTS > 1
#define NO_WAIT (task[T(0)] != WAITING && task[T(1)] != WAITING)
#define IDLE (task[T(0)] == FREE && task[T(1)] == FREE)
#else
#define NO_WAIT (task[T(0)] != WAITING)
#define IDLE (task[T(0)] == FREE)
#endif

proctype worker(byte w)
{
end:
	do
	/* The I/O thread: line_turn.c, line_io.c */
	EACH_SLOT(TURN)
	EACH_SLOT(WAIT)
	/* Pool threads: runner.c */
	EACH_SLOT(POOL)
	/* Its keeper: keeper.c */
	:: d_step { TICK_MATTERS -> tick(w) }
#ifdef STOP
	EACH_SLOT(OWN)
	/* leave.lua: off the list, all slots being empty; then the next process */
	:: d_step { drains[w] && IDLE && EMPTY(w) ->
		printf("worker %d: leaves the list\n", w);
		listed = listed & ~BIT(w);
		expired = expired & ~BIT(w);
		start_again(w) }
#endif
	/* What befalls it. */
	BY_DIE
	BY_STALL
	BY_CUT
	EACH_SLOT(BY_CUT_SLOT)
	BY_LATE
	EACH_SLOT(BY_LATE_SLOT)
	EACH_SLOT(BY_LATE_WAIT)
	BY_STOP
	od
}

/* --- What some keeper does for others. --------------------------------------------------------------------------------------
 *
 * reap.c looks, decides, and lets a script do it that checks the same again (lease, identity, emptiness). So what it saw before does not
 * matter, nor who it was, nor whether the request was late: each step here is the script alone. */

#define LAPSED(v) ((listed & BIT(v)) && (expired & BIT(v)))

inline strike(v)
{
	printf("keeper: id %d struck off\n", v);
	listed = listed & ~BIT(v);
	expired = expired & ~BIT(v)
}

/* reap.c reap_job(): back to ready (SETTLE_BACK), or given up after max_crashes (SETTLE_RESULT); turn.lua with a worker to be reaped. */
#define REAP(v, s) \
	:: d_step { LAPSED(v) && GRACE_OVER && slot[KEY(v, s)] -> \
		printf("keeper: job %d reaped from slot %d.%d\n", slot[KEY(v, s)] & 7, v, s); \
		push_back(slot[KEY(v, s)] & 7); slot[KEY(v, s)] = slot[KEY(v, s)] >> 3; strike_empty(v); places() } \
	GIVE_UP(v, s)
#ifdef CRASHES
#define GIVE_UP(v, s) \
	:: d_step { LAPSED(v) && GRACE_OVER && slot[KEY(v, s)] -> \
		printf("keeper: job %d in slot %d.%d given up\n", slot[KEY(v, s)] & 7, v, s); \
		write_result(slot[KEY(v, s)] & 7); slot[KEY(v, s)] = slot[KEY(v, s)] >> 3; strike_empty(v); places() }
#else
#define GIVE_UP(v, s)
#endif
/* A slot that nobody lists: its job goes back, if the worker is really not listed (one script). */
#ifdef NO_SWEEP
#define SWEEP(v, s)
#else
#define SWEEP(v, s) \
	:: d_step { !(listed & BIT(v)) && slot[KEY(v, s)] -> \
		printf("keeper: job %d swept from slot %d.%d\n", slot[KEY(v, s)] & 7, v, s); \
		push_back(slot[KEY(v, s)] & 7); slot[KEY(v, s)] = slot[KEY(v, s)] >> 3; places() }
#endif
/* leave.lua with 'expired': lease and slots are looked at in the step that strikes off. */
#ifdef SPLIT_STRIKE
#define STRIKE(v) \
	:: d_step { !striking && LAPSED(v) && GRACE_OVER && EMPTY(v) -> striking = v + 1; printf("keeper: slots of id %d are empty\n", v) } \
	:: d_step { striking == v + 1 -> striking = 0; strike(v) }
#else
#define STRIKE(v) \
	:: d_step { LAPSED(v) && GRACE_OVER && EMPTY(v) -> strike(v) }
#endif
#if SLOTS > 1
#define FOR_ID(v) REAP(v, 0) REAP(v, 1) SWEEP(v, 0) SWEEP(v, 1) STRIKE(v)
#else
#define FOR_ID(v) REAP(v, 0) SWEEP(v, 0) STRIKE(v)
#endif
#if IDS > 2
#define FOR_ID2 FOR_ID(2)
#else
#define FOR_ID2
#endif
#if IDS > 3
#define FOR_ID3 FOR_ID(3)
#else
#define FOR_ID3
#endif
#if IDS > 4
#define FOR_ID4 FOR_ID(4)
#else
#define FOR_ID4
#endif
#if IDS > 5
#define FOR_ID5 FOR_ID(5)
#else
#define FOR_ID5
#endif

proctype keepers()
{
end:
	do
	FOR_ID(0)
	FOR_ID(1)
	FOR_ID2
	FOR_ID3
	FOR_ID4
	FOR_ID5
	/* tick.lua: what is due leaves delayed and is in ready */
	:: d_step { delayed -> push_back(AGAIN); delayed = 0; places() }
	od
}

/* --- Producers, and requests that are carried out late. ----------------------------------------------------------------------- */

#define WIRE(x) \
	:: d_step { late[x] != FREE && (late[x] != WAITING || ready) -> carry_out_late(x) }

inline carry_out_late(x)
{
	v = KEY(late_under[x], x % SLOTS);
	printf("redis: late %e of slot %d.%d\n", late[x], late_under[x], x % SLOTS);
	if
	:: late[x] == WAITING -> move(v)
	:: late[x] == CLAIM ->
		if
		:: LISTED(late_under[x]) && slot[v] == 0 && ready -> move(v)
		:: else
		fi
	:: else -> settle(v, late_job[x], late[x])
	fi;
	late[x] = FREE;
	late_job[x] = 0;
	late_under[x] = 0;
	places()
}

#define WIRE_TICK(w) \
	:: d_step { late_tick[w] -> \
		printf("redis: late tick for id %d\n", (late_tick[w] & 15) - 1); \
		if \
		:: late_tick[w] > 15 || (listed & BIT(late_tick[w] - 1)) -> lease((late_tick[w] & 15) - 1) \
		:: else \
		fi; \
		late_tick[w] = 0 }

proctype wire()
{
end:
	do
	:: d_step { pushed < JOBS -> /* LPUSH */
		pushed++;
		n = ready;
		i = 0;
		do
		:: n -> i = i + 3; n = n >> 3
		:: else -> break
		od;
		ready = ready | (pushed << i);
		printf("producer: job %d\n", pushed);
		places() }
	WIRE(0)
	WIRE(1)
#if TASKS > 2
	WIRE(2)
	WIRE(3)
#endif
	WIRE_TICK(0)
	WIRE_TICK(1)
	od
}

/* --- The whole. -------------------------------------------------------------------------------------------------------------- */

inline ended()
{
	printf("nothing more can happen: ready %o, done %d, listed %d\n", ready, done, listed);
	assert(done == (1 << (JOBS + 1)) - 2); /* ended: every job has its result */
	i = 0;
	do
	:: i < KEYS -> assert(slot[i] == 0); i++ /* ended: no slot is full */
	:: else -> break
	od;
	assert(listed == 3) /* ended: only living workers are listed */
}

active proctype nature()
{
#ifdef ALL_PUSHED
	d_step {
		pushed = JOBS;
		do
		:: i < JOBS -> i++; push_back(JOBS + 1 - i)
		:: else -> break
		od;
		skip
	}
#endif
	run worker(0);
	run worker(1);
	run keepers();
	run wire();
	do
#ifdef RESTART
	:: d_step { faults < FAULTS -> faults++; restart() }
#endif
#ifdef ROLLBACK
	:: d_step { !saved && faults < FAULTS -> save() }
	:: d_step { saved && faults < FAULTS -> faults++; roll_back(); restart() }
#endif
	:: faults < FAULTS -> faults = FAULTS /* no more */
	:: timeout -> d_step { ended() }; break
	od
}
