/**
 * Whatever field of a 402, of a refusal or of a receipt a server changes: nothing is signed outside the policy, and the value
 * that is signed stays within every one of its limits (I11). The oracle reads the signatures themselves.
 */
import fc from "fast-check";
import type { Address, Hex, LocalAccount } from "viem";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ApprovalRequest, PaymentClient, type PaymentPolicy } from "../../src/client/index.ts";
import { approveCall, openCall } from "../../src/escrow/index.ts";
import { formatChallenge, formatTimestamp } from "../../src/protocol/index.ts";
import { CANONICAL_PERMIT2, computeChannelId, ZERO_ADDRESS } from "../../src/voucher/index.ts";
import { LIES, lieOf } from "./lies.ts";
import { type Deposit, highestSum, SignatureOracle, type Spent, windowOf } from "./signatureOracle.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	type Call,
	challengeOf,
	paymentRequired,
	type Reply,
	receiptHeader,
	type ScriptedServer,
	STRANGER,
	scriptedServer,
	sessionTerms,
	spyOn,
	type Terms,
} from "./support.ts";

const PAYEE: Address = `0x${"bb".repeat(20)}`;
const OTHER_PAYEE: Address = `0x${"ba".repeat(20)}`;
const DENIED_PAYEE: Address = `0x${"bd".repeat(20)}`;
const SPLIT: Address = `0x${"5b".repeat(20)}`;
const HOUR = 3_600_000;
/** Each run has its own; the one of a failure is told with it, and can be given again. */
const SEED = Number(process.env.POLICY_SEED ?? Math.floor(Math.random() * 2 ** 31));

const LIMITS = {
	request: 400n,
	host: { hour: 900n, day: 1_500n },
	payee: { day: 1_600n },
	channel: { ever: 1_200n },
	category: { both: { hour: 1_300n, month: 3_000n } },
	total: { hour: 1_200n, day: 1_800n, month: 2_800n, ever: 3_500n },
} as const;
const MAX = { maxPrice: 500n, maxDeposit: 3_000n, maxTotal: 4_000n, approveAbove: 1_500n } as const;
const MAX_CHANNELS = 3;

let world: Stage;
let chainId: number;
let rich: LocalAccount;
/** Two that may be paid, and one that may not. */
let servers: ScriptedServer[];
/** A channel of the payer's that the clients below have no record of. */
let known: Hex;
beforeAll(async () => {
	world = await createStage();
	({ chainId } = world.chain);
	servers = [await scriptedServer(), await scriptedServer(), await scriptedServer()];
	rich = await world.payer({ funds: 10n ** 12n, gas: true, permit2: 10n ** 9n });
	const parameters = {
		payer: rich.address,
		payee: PAYEE,
		token: world.token,
		salt: `0x${"5a".repeat(32)}`,
		authorizedSigner: ZERO_ADDRESS,
		escrow: world.escrow,
		chainId,
	} as const;
	await world.send(approveCall(world.token, world.escrow, 5_000n), rich);
	await world.send(openCall(world.escrow, { ...parameters, deposit: 3_000n }), rich);
	known = computeChannelId(parameters);
});
afterAll(async () => {
	await Promise.all(servers.map((server) => server.stop()));
	await world.stop();
});

const hostsOf = () => servers.map(({ host }) => host);

function policyOf(ownTransactions: boolean): PaymentPolicy {
	const [first = "", second = "", third = ""] = hostsOf();
	return {
		hosts: [first, second, third],
		payees: [PAYEE, OTHER_PAYEE, DENIED_PAYEE],
		denied: { hosts: [third], payees: [DENIED_PAYEE], tokens: [STRANGER], escrows: [STRANGER], chainIds: [1] },
		categories: { both: { hosts: [first, second] } },
		currencies: [
			{ symbol: "USD", decimals: 2, tokens: [{ chainId, address: world.token }], ...MAX, limits: LIMITS },
			// What is listed may still be denied.
			{ symbol: "BAD", decimals: 2, tokens: [{ chainId, address: STRANGER }], ...MAX },
		],
		escrows: [world.escrow, STRANGER],
		splitRecipients: [SPLIT, DENIED_PAYEE],
		maxChannels: MAX_CHANNELS,
		ownTransactions,
	};
}

/** Every limit of the policy, with how the spent value is grouped by it. */
const LIMIT_GROUPS: readonly [string, bigint, (one: Spent) => string | undefined][] = [
	["host.hour", LIMITS.host.hour, ({ host, atMs }) => `${host} ${windowOf.hour(atMs)}`],
	["host.day", LIMITS.host.day, ({ host, atMs }) => `${host} ${windowOf.day(atMs)}`],
	["payee.day", LIMITS.payee.day, ({ payee, atMs }) => payee && `${payee} ${windowOf.day(atMs)}`],
	["channel.ever", LIMITS.channel.ever, ({ channelId }) => channelId],
	["category.both.hour", LIMITS.category.both.hour, ({ atMs }) => windowOf.hour(atMs)],
	["category.both.month", LIMITS.category.both.month, ({ atMs }) => windowOf.month(atMs)],
	["total.hour", LIMITS.total.hour, ({ atMs }) => windowOf.hour(atMs)],
	["total.day", LIMITS.total.day, ({ atMs }) => windowOf.day(atMs)],
	["total.month", LIMITS.total.month, ({ atMs }) => windowOf.month(atMs)],
	["total.ever", LIMITS.total.ever, () => "ever"],
];

/** What may stand in a field instead of what is right. */
const amounts = () =>
	fc.constantFrom<unknown>(
		"0",
		"1",
		"100",
		"399",
		"400",
		"401",
		"500",
		"501",
		"3001",
		String(2n ** 128n),
		"-1",
		"1e3",
		"007",
		5,
		null,
	);
const addresses = (...good: readonly Address[]) =>
	fc.constantFrom<unknown>(...good, STRANGER, ZERO_ADDRESS, DENIED_PAYEE, "0x", "", 7, null);

type Edit = Readonly<{ at: "params" | "request" | "details"; field: string; value: unknown }>;
const editOf = (at: Edit["at"], field: string, values: fc.Arbitrary<unknown>) =>
	values.map((value): Edit => ({ at, field, value }));
const edits = (): fc.Arbitrary<Edit> =>
	fc.oneof(
		editOf("params", "method", fc.constantFrom("tempo", "evm2", "")),
		editOf("params", "intent", fc.constantFrom("session", "charge", "authorize", "Session")),
		editOf("params", "realm", fc.constantFrom("", "évil", "x".repeat(500))),
		editOf("params", "id", fc.constantFrom("", "forged", "x".repeat(1_000))),
		editOf("params", "expires", fc.constantFrom("9999-12-31T23:59:59Z", "2001-01-01T00:00:00Z", "soon", undefined)),
		editOf("params", "digest", fc.constantFrom("sha-256=:AAAA:", "sha-256=garbage", "md5=:AAAA:", "")),
		editOf("params", "opaque", fc.constantFrom(undefined, "", "e30", "not base64url!", "x".repeat(2_000))),
		editOf("params", "description", fc.constantFrom("free of charge", "x".repeat(2_000))),
		editOf("request", "amount", amounts()),
		editOf("request", "currency", addresses(world.token)),
		editOf("request", "recipient", addresses(PAYEE, OTHER_PAYEE)),
		editOf("request", "suggestedDeposit", amounts()),
		editOf("request", "unitType", fc.constantFrom<unknown>("token", "", 1)),
		editOf("request", "externalId", fc.constantFrom<unknown>("order", 1)),
		editOf("request", "methodDetails", fc.constantFrom<unknown>({}, null, [], "chain")),
		editOf("details", "chainId", fc.constantFrom<unknown>(1, 0, -1, 2 ** 60, String(chainId), null)),
		editOf("details", "escrowContract", addresses(world.escrow, world.token)),
		editOf(
			"details",
			"credentialTypes",
			fc.constantFrom<unknown>(
				["permit2"],
				["hash"],
				["transaction"],
				["authorization", "permit2", "hash", "transaction"],
				[],
				"authorization",
				[1],
				undefined,
			),
		),
		editOf("details", "channelId", fc.constantFrom<unknown>(known, known, `0x${"c1".repeat(32)}`, "x")),
		editOf("details", "minVoucherDelta", amounts()),
		editOf("details", "feePayer", fc.constantFrom<unknown>(true, false, "yes")),
		editOf("details", "permit2Contract", addresses(CANONICAL_PERMIT2)),
		editOf("details", "permit2Address", addresses(CANONICAL_PERMIT2)),
		editOf(
			"details",
			"splits",
			fc.constantFrom<unknown>(
				[{ recipient: SPLIT, amount: "1" }],
				[{ recipient: SPLIT, amount: "100000" }],
				[{ recipient: DENIED_PAYEE, amount: "1" }],
				[{ recipient: STRANGER, amount: "1" }],
				[{ recipient: SPLIT, amount: "-1" }],
				Array(11).fill({ recipient: SPLIT, amount: "1" }),
			),
		),
	);

type Offer = Readonly<{
	intent: "session" | "charge";
	amount: string;
	deposit: string;
	payee: Address;
	edits: readonly Edit[];
}>;
const offers = (): fc.Arbitrary<Offer> =>
	fc.record({
		intent: fc.constantFrom("session" as const, "session" as const, "charge" as const),
		amount: fc.constantFrom("100", "250", "400"),
		deposit: fc.constantFrom("1000", "1500", "2000"),
		payee: fc.constantFrom(PAYEE, PAYEE, OTHER_PAYEE),
		edits: fc.oneof(
			{ weight: 3, arbitrary: fc.constant([]) },
			{ weight: 2, arbitrary: fc.array(edits(), { minLength: 1, maxLength: 3 }) },
		),
	});

/** The header field of an offer, at a moment. What no challenge can hold is left as it would be. */
function headerOf({ intent, amount, deposit, payee, edits: its }: Offer, nowMs: number): string {
	const changes = (at: Edit["at"]) =>
		Object.fromEntries(its.flatMap((edit) => (edit.at === at ? [[edit.field, edit.value]] : [])));
	const { escrowContract: _, ...chargeDetails } = sessionTerms(world, payee).methodDetails as Record<string, unknown>;
	const base = intent === "session" ? {} : { methodDetails: { ...chargeDetails, ...changes("details") } };
	const request = {
		...sessionTerms(world, payee, { amount, suggestedDeposit: deposit }, changes("details")),
		...base,
		...changes("request"),
	};
	const params = changes("params");
	const sound = challengeOf(JSON.parse(JSON.stringify(request)) as Terms, {
		intent,
		expires: formatTimestamp(nowMs + 120_000),
	});
	try {
		return formatChallenge({ ...sound, ...params } as typeof sound);
	} catch {
		return Object.entries({ ...sound, ...params })
			.filter(([, value]) => value !== undefined)
			.reduce((text, [name, value]) => `${text}${text === "Payment " ? "" : ", "}${name}="${value}"`, "Payment ");
	}
}

type Lie = Readonly<{ kind: string; offers: readonly Offer[]; amount: bigint }>;
const lies = (): fc.Arbitrary<Lie> =>
	fc.record({
		kind: fc.constantFrom(...Array(8).fill("served"), "receipt", ...LIES),
		offers: fc.array(offers(), { minLength: 1, maxLength: 3 }),
		amount: fc.oneof(fc.bigInt({ min: 0n, max: 3_000n }), fc.constant(2n ** 128n - 1n)),
	});

function reply(call: Call, { kind, offers: its, amount }: Lie, nowMs: number): Reply {
	const asking = (answer: Exclude<Reply, "cut">) => ({
		...answer,
		headers: { ...answer.headers, "www-authenticate": its.map((offer) => headerOf(offer, nowMs)) },
	});
	if (call.credential === undefined) return asking(paymentRequired());
	const { payload } = call.credential;
	const signed = BigInt(String(payload.cumulativeAmount ?? 0));
	const isSession = payload.channelId !== undefined;
	switch (kind) {
		case "served":
			return isSession ? { headers: receiptHeader(call, chainId, signed) } : {};
		case "receipt":
			return isSession ? { headers: receiptHeader(call, chainId, amount, { acceptedCumulative: amount }) } : {};
		default:
			return lieOf(kind, { call, chainId, amount }, asking);
	}
}

type Wave = Readonly<{
	server: number;
	size: number;
	stepMs: number;
	rule: "as it is" | "paused" | "dryRun" | "host denied";
}>;
const waves = (): fc.Arbitrary<Wave> =>
	fc.record({
		server: fc.constantFrom(0, 0, 0, 1, 1, 2),
		size: fc.integer({ min: 1, max: 4 }),
		stepMs: fc.constantFrom(0, 0, 0, 60_000, HOUR, HOUR, 24 * HOUR, 31 * 24 * HOUR),
		rule: fc.constantFrom(
			...Array<"as it is">(12).fill("as it is"),
			"paused" as const,
			"dryRun" as const,
			"host denied" as const,
		),
	});

type Course = Readonly<{
	lies: readonly Lie[];
	waves: readonly Wave[];
	ownTransactions: boolean;
	/** What is said to each that is asked for. */
	approvals: readonly boolean[];
}>;
const courses = (): fc.Arbitrary<Course> =>
	fc.record({
		lies: fc.array(lies(), { minLength: 1, maxLength: 12, size: "max" }),
		waves: fc.array(waves(), { minLength: 4, maxLength: 14, size: "max" }),
		ownTransactions: fc.constantFrom(true, false, false, false),
		approvals: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
	});

/** The limits that a run has come up to, of all runs. */
const refusedBy = new Map<string, number>();

async function play(course: Course): Promise<void> {
	const [first, second, third] = servers as [ScriptedServer, ScriptedServer, ScriptedServer];
	const spy = spyOn(rich);
	let nowMs = Date.now();
	const approved: ApprovalRequest[] = [];
	let asked = 0;
	const policy = policyOf(course.ownTransactions);
	const agent = new PaymentClient({
		account: spy.account,
		client: world.chain.client,
		policy,
		retry: { retries: 1, minDelayMs: 0, maxDelayMs: 0 },
		now: () => nowMs,
		approve: (request) => {
			const isApproved = course.approvals[asked++ % course.approvals.length] ?? false;
			if (isApproved) approved.push(request);
			return isApproved;
		},
	});
	const oracle = new SignatureOracle(spy, {
		chainId,
		token: world.token.toLowerCase() as Address,
		escrow: world.escrow.toLowerCase() as Address,
		payees: [PAYEE, OTHER_PAYEE],
		splitRecipients: [SPLIT],
		maxDeposit: MAX.maxDeposit,
		maxPrice: LIMITS.request,
		goodForSeconds: 300,
		ownTransactions: course.ownTransactions,
	});
	let told = 0;
	const script = (call: Call) =>
		reply(call, course.lies[told++ % course.lies.length] ?? { kind: "500", offers: [], amount: 0n }, nowMs);
	for (const server of servers) server.answer(script);
	const deniedBefore = third.payloads().length;
	for (const { server: which, size, stepMs, rule } of course.waves) {
		nowMs += stepMs;
		const server = [first, second, third][which] ?? first;
		const before = oracle.count;
		const spentBefore = oracle.spent.length;
		if (rule !== "as it is")
			agent.setPolicy({
				...policy,
				...(rule === "host denied"
					? { denied: { hosts: hostsOf() } }
					: rule === "paused"
						? { paused: true }
						: { dryRun: true }),
			});
		const paths = Array.from({ length: size }, (_, i) => `/${i % 2}`);
		const outcomes = await Promise.allSettled(paths.map((path) => agent.fetch(`${server.url}${path}`)));
		for (const outcome of outcomes) {
			if (outcome.status === "fulfilled") await outcome.value.arrayBuffer();
			else {
				expect(outcome.reason).toBeInstanceOf(Error);
				const name = outcome.reason.limit?.name ?? outcome.reason.rule;
				if (name !== undefined) refusedBy.set(name, (refusedBy.get(name) ?? 0) + 1);
			}
		}
		for (const { channelId, parameters } of [...agent.channels, ...agent.forgotten])
			oracle.knowChannel(channelId, parameters);
		oracle.takeIn(server.host, server, nowMs);
		if (rule !== "as it is" || server === third) expect(oracle.count).toBe(before);
		// However often it was tried, at whatever prices.
		const byChannel = highestSum(oracle.spent.slice(spentBefore), ({ channelId }) => channelId);
		expect(byChannel).toBeLessThanOrEqual(LIMITS.request * BigInt(size));
		agent.setPolicy(policy);
	}
	expect(third.payloads()).toHaveLength(deniedBefore);
	for (const [name, max, groupOf] of LIMIT_GROUPS)
		expect([name, highestSum(oracle.spent, groupOf) <= max]).toEqual([name, true]);
	expectApproved(oracle, approved);
	expectDepositsBounded(oracle.deposits, agent.channels.length + agent.forgotten.length);
}

/** What is above the threshold was asked for, and approved. */
function expectApproved({ deposits, charges }: SignatureOracle, approved: readonly ApprovalRequest[]): void {
	const isApproved = (amount: bigint, ...kinds: readonly ApprovalRequest["kind"][]) =>
		amount <= MAX.approveAbove || approved.some((one) => kinds.includes(one.kind) && one.amount >= amount);
	for (const { amount } of deposits) expect(isApproved(amount, "open", "topUp")).toBe(true);
	for (const amount of charges) expect(isApproved(amount, "charge")).toBe(true);
}

/** No more is ever deposited than so many channels may hold in all. */
function expectDepositsBounded(deposits: readonly Deposit[], channels: number): void {
	expect(channels).toBeLessThanOrEqual(MAX_CHANNELS);
	const byNonce = new Map(deposits.map(({ nonce, amount }) => [nonce, amount]));
	for (const [nonce, amount] of byNonce)
		for (const one of deposits) if (one.nonce === nonce) expect(one.amount).toBe(amount);
}

describe("whatever field a server changes (I11)", () => {
	test("what is signed stays within every limit of the policy, and nothing else is signed", async () => {
		console.log(`policyAdversary: POLICY_SEED=${SEED}`);
		const scopes = ["host.", "payee.", "channel.", "total."];
		const isReached = (scope: string) => [...refusedBy.keys()].some((name) => name.startsWith(scope));
		// Of some seeds 120 courses happen to leave one out, as windows of limits begin anew by the clock: then more are played.
		for (let more = 0; more < 5 && (more === 0 || !scopes.every(isReached)); more++)
			await fc.assert(fc.asyncProperty(courses(), play), { numRuns: 120, seed: SEED + more });
		// The courses come up to limits of each scope, and are stopped by the rules.
		for (const scope of scopes) expect([scope, isReached(scope)]).toEqual([scope, true]);
		for (const rule of ["host", "paused", "dryRun", "approval"])
			expect([rule, refusedBy.has(rule)]).toEqual([rule, true]);
		const ofFields = ["chain", "token", "payee", "escrow", "price", "splits", "deposit", "digest", "credential"];
		expect(ofFields.filter((rule) => refusedBy.has(rule)).length).toBeGreaterThanOrEqual(3);
	}, 300_000);
});
