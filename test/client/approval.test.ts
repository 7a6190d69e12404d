/** Whoever approves is asked for everything above the threshold, each time, whatever the server makes the client try. */

import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import type { ApprovalRequest } from "../../src/client/index.ts";
import type { Challenge } from "../../src/protocol/index.ts";
import { Agents, AUTHORIZED, asking, idsOf, metered } from "./agents.ts";
import { Relay, type RelayOptions } from "./relay.ts";
import { createStage, type Stage } from "./stage.ts";
import {
	type Call,
	paymentRequired,
	type Reply,
	refusal,
	type ScriptedServer,
	type Signed,
	scriptedServer,
} from "./support.ts";

let stage: Stage;
let server: ScriptedServer;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());
beforeEach(async () => {
	server = await scriptedServer();
});
afterEach(() => server.stop());

const agentsWith = (options?: RelayOptions) => Agents.create({ stage, server }, options);
const brief = ({ kind, amount }: ApprovalRequest) => `${kind} ${amount}`;

describe("an approval", () => {
	/** Answers the first credentials of a kind by these, and all else as the relay does. */
	function scripted(relay: Relay, action: string, replies: readonly (() => Reply)[]) {
		const left = [...replies];
		server.answer((call) => {
			const next = call.credential?.payload.action === action ? left.shift() : undefined;
			return next === undefined ? relay.script(call) : next();
		});
	}

	it("of a deposit is none for another payee, nor for another token", async () => {
		const agents = await agentsWith();
		const other = new Relay(stage, AUTHORIZED);
		const [deployer] = [stage.chain.account(0)];
		const { token } = await deployContracts(stage.chain, deployer, agents.account.address, 1_000n);
		const fresh = (offer: Challenge) => () => refusal("session/challenge-not-found", {}, offer);
		scripted(agents.relay, "open", [
			fresh(other.session()),
			fresh(agents.relay.session({ currency: token })),
			() => refusal("verification-failed"),
		]);
		const { asked, approve } = asking(true);
		const { get, spy } = agents.add({ approveAbove: 50n, tokens: [stage.token, token] }, { approve });
		expect((await get()).status).not.toBe(200);
		expect(asked.map(({ kind, payee, token }) => ({ kind, payee, token }))).toEqual([
			{ kind: "open", payee: agents.relay.address, token: stage.token },
			{ kind: "open", payee: other.address, token: stage.token },
			{ kind: "open", payee: agents.relay.address, token },
		]);
		expect(spy.deposits()).toHaveLength(3);
	});

	it("of a request is none for another channel", async () => {
		const agents = await agentsWith({ ...AUTHORIZED, terms: { suggestedDeposit: "300" } });
		const other = new Relay(stage, { ...AUTHORIZED, terms: { suggestedDeposit: "300" } });
		const { asked, approve } = asking(true);
		const { get, agent } = agents.add({ approveAbove: 300n }, { approve });
		for (const [path, relay] of [
			["/0", agents.relay],
			["/1", other],
		] as const) {
			server.answer(relay.script);
			await get({ path });
		}
		const [first = "0x", second = "0x"] = idsOf(agent);
		agent.setPolicy(agents.policyOf({ approveAbove: 50n }));
		server.answer((call) => {
			const relay = call.credential?.payload.channelId === second ? other : agents.relay;
			if (call.credential?.payload.channelId === first)
				return refusal("session/challenge-not-found", {}, other.session());
			return relay.script(call);
		});
		expect((await get({ path: "/again" })).status).toBe(200);
		expect(asked.map(({ kind, amount, channelId }) => ({ kind, amount, channelId }))).toEqual([
			{ kind: "request", amount: 100n, channelId: first },
			{ kind: "request", amount: 100n, channelId: second },
		]);
	});

	it.each([
		["is given again", 2],
		["is not given again", 1],
	])("of a deposit is none for the next channel where the server says that the first is gone: %s", async (_, given) => {
		const agents = await agentsWith();
		scripted(agents.relay, "open", [() => refusal("session/channel-not-found")]);
		let left = given;
		const { asked, approve } = asking(() => left-- > 0);
		const { get, spy } = agents.add({ approveAbove: 50n }, { approve });
		if (given === 2) expect((await get()).status).toBe(200);
		else await expect(get()).rejects.toMatchObject({ rule: "approval" });
		expect(asked.map(brief)).toEqual(["open 1000", "open 1000"]);
		expect(spy.deposits()).toHaveLength(given);
	});

	it("of a top-up is none for the next one of the same request", async () => {
		const agents = await agentsWith({ ...AUTHORIZED, terms: { suggestedDeposit: "100" } });
		const { asked, approve } = asking(true);
		const { get, agent } = agents.add({ approveAbove: 99n }, { approve });
		expect((await get()).status).toBe(200);
		asked.length = 0;
		const dearer = agents.relay.session({ amount: "150" });
		scripted(agents.relay, "voucher", [() => refusal("payment-required", {}, dearer)]);
		expect((await get()).status).toBe(200);
		expect(asked.map(brief)).toEqual(["request 100", "topUp 100", "request 150", "topUp 100"]);
		expect(agent.channels).toMatchObject([{ deposit: 300n }]);
	});

	it("is asked for a step that is more than the price, with the step's amount", async () => {
		const agents = await agentsWith({ details: { ...AUTHORIZED.details, minVoucherDelta: "300" } });
		let isWanted = true;
		const { asked, approve } = asking(() => isWanted);
		const { get, spy, agent } = agents.add({}, { approve });
		await get();
		agent.setPolicy(agents.policyOf({ approveAbove: 200n }));
		await get();
		expect(asked.map(brief)).toEqual(["request 300"]);
		expect(spy.vouchers()).toEqual([100n, 400n]);
		for (let i = 0; i < 2; i++) await get();
		isWanted = false;
		await expect(get()).rejects.toMatchObject({ rule: "approval" });
		expect(spy.vouchers().at(-1)).toBe(400n);
	});

	it.each([
		["given", true],
		["refused", false],
	])("is asked for what an answer may cost that turns out to be metered: %s", async (_, isGiven) => {
		const over = Promise.withResolvers<void>();
		const agents = await agentsWith({ ...AUTHORIZED, terms: { suggestedDeposit: "400" } });
		server.answer(metered(agents.relay.script, { required: (paid) => paid + 100n, over: over.promise }));
		const { asked, approve } = asking(isGiven);
		const { get, spy } = agents.add(
			{ approveAbove: 500n, maxStream: 900n },
			{ approve, stream: { aheadUnits: 1, stepUnits: 1 } },
		);
		const answer = await get();
		const reader = answer.body?.getReader();
		expect(asked).toEqual([]);
		await reader?.read();
		const more = reader?.read();
		more?.catch(() => undefined);
		await expect.poll(() => asked.map(brief), { timeout: 20_000 }).toEqual(["request 900"]);
		if (isGiven) await expect.poll(() => spy.vouchers().length, { timeout: 20_000 }).toBeGreaterThan(1);
		else {
			await expect(more).rejects.toMatchObject({ rule: "approval" });
			expect(spy.vouchers()).toEqual([100n]);
			expect(server.calls.filter(({ method }) => method === "HEAD")).toEqual([]);
		}
		over.resolve();
		await reader?.cancel().catch(() => undefined);
	});
});

describe("an answer that is metered", () => {
	it("is signed for up to maxStream, what its head has counted included (I11)", async () => {
		const over = Promise.withResolvers<void>();
		const agents = await agentsWith({ ...AUTHORIZED, terms: { suggestedDeposit: "5000" } });
		server.answer(metered(agents.relay.script, { required: () => 1_000n, over: over.promise }));
		const { get, spy } = agents.add({ maxStream: 900n }, { stream: { aheadUnits: 20, stepUnits: 1 } });
		const answer = await get();
		await expect(answer.text()).rejects.toMatchObject({ code: "STREAM_LIMIT" });
		over.resolve();
		expect(spy.vouchers().every((amount) => amount <= 900n)).toBe(true);
	});
});

describe("under a server that says anything", () => {
	const THRESHOLD = 120n;
	const MAX_STREAM = 400n;
	/** The highest step that a server asks for here. */
	const STEP = 130n;

	type Terms = Readonly<{ payee: 0 | 1; amount: bigint; suggestedDeposit: bigint; minVoucherDelta: bigint }>;
	type Lie = Readonly<{
		kind: "honest" | "fresh" | "gone" | "more" | "step" | "metered" | "cut";
		terms: Terms;
		by: bigint;
	}>;

	const terms = (): fc.Arbitrary<Terms> =>
		fc.record({
			payee: fc.constantFrom(0 as const, 1 as const),
			amount: fc.constantFrom(40n, 100n, 150n),
			suggestedDeposit: fc.constantFrom(100n, 200n, 600n),
			minVoucherDelta: fc.constantFrom(0n, STEP),
		});
	const lies = (): fc.Arbitrary<Lie> =>
		fc.record({
			kind: fc.constantFrom("honest", "honest", "fresh", "gone", "more", "step", "metered", "metered", "cut"),
			terms: terms(),
			by: fc.constantFrom(1n, 100n, 130n, 300n),
		});

	/** What whoever approves and the account have seen, in this order. */
	type Seen = Readonly<{ request: number }> &
		Readonly<
			| { asked: ApprovalRequest; isGiven: boolean }
			| { deposit: bigint; nonce: string }
			| { voucher: bigint; channelId: string }
		>;

	/** Everything above the threshold was approved before: each deposit by itself, vouchers for each request and channel. */
	function expectApproved(seen: readonly Seen[]): void {
		const approved: Seen[] = [];
		const nonces = new Set<string>();
		const highest = new Map<string, bigint>();
		const raised = new Map<string, bigint>();
		for (const one of seen) {
			if ("asked" in one) {
				if (one.isGiven) approved.push(one);
			} else if ("deposit" in one) {
				if (nonces.has(one.nonce)) continue;
				nonces.add(one.nonce);
				if (one.deposit <= THRESHOLD) continue;
				const at = approved.findIndex(
					(is) => "asked" in is && is.asked.kind !== "request" && is.asked.amount === one.deposit,
				);
				expect(at, `a deposit of ${one.deposit}`).toBeGreaterThanOrEqual(0);
				approved.splice(at, 1);
			} else {
				const { request, channelId, voucher } = one;
				const before = highest.get(channelId) ?? 0n;
				if (voucher <= before) continue;
				highest.set(channelId, voucher);
				const raise = voucher - before;
				/** What a request may raise the vouchers of the channel by. */
				const mostOf = (asker: number) => {
					const given = approved.flatMap((is) =>
						"asked" in is && is.request === asker && (is.asked.channelId ?? channelId) === channelId
							? [is.asked.amount]
							: [],
					);
					return given.reduce((a, b) => (a > b ? a : b), 0n);
				};
				// What the deposit of a new channel was approved for is for its first voucher as well.
				const opened = before === 0n ? seen.flatMap((is) => ("deposit" in is ? [is.deposit] : [])) : [];
				const own = [THRESHOLD, mostOf(request), ...opened].reduce((a, b) => (a > b ? a : b));
				// The last voucher of an answer may be on its way still when the next request begins.
				const late = Array.from({ length: request }, (_, at) => [at, mostOf(at)] as const);
				const covers = [[request, own] as const, ...late].find(([asker, most]) => {
					// A step may go beyond the price that it was taken for, once.
					return raise <= most && (raised.get(`${asker} ${channelId}`) ?? 0n) + raise <= most + STEP;
				});
				expect(covers, `a voucher of ${voucher} after one of ${before} for request ${request}`).toBeDefined();
				const of = `${covers?.[0]} ${channelId}`;
				raised.set(of, (raised.get(of) ?? 0n) + raise);
			}
		}
	}

	it("nothing above the threshold is signed that was not approved before", async () => {
		const course = fc.record({
			lies: fc.array(lies(), { minLength: 1, maxLength: 10 }),
			answers: fc.array(fc.constantFrom(true, true, true, false), { minLength: 1, maxLength: 6 }),
			requests: fc.integer({ min: 1, max: 5 }),
		});
		const numbers = { asked: 0, vouchers: 0, deposits: 0 };
		await fc.assert(
			fc.asyncProperty(course, async ({ lies, answers, requests }) => {
				const seen: Seen[] = [];
				let request = 0;
				const agents = await agentsWith();
				const relays = [new Relay(stage, AUTHORIZED), new Relay(stage, AUTHORIZED)] as const;
				const offer = ({ payee, amount, suggestedDeposit, minVoucherDelta }: Terms) =>
					relays[payee].session(
						{ amount: String(amount), suggestedDeposit: String(suggestedDeposit) },
						minVoucherDelta > 0n ? { minVoucherDelta: String(minVoucherDelta) } : {},
					);
				let told = 0;
				server.answer(async (call): Promise<Reply> => {
					const lie = lies[told++ % lies.length];
					if (lie === undefined) return {};
					if (call.credential === undefined) return paymentRequired(offer(lie.terms));
					const { channelId, cumulativeAmount } = call.credential.payload;
					const script = relayOf(call, relays).script;
					const required = String(BigInt(String(cumulativeAmount ?? 0)) + lie.by);
					switch (lie.kind) {
						case "fresh":
							return refusal("session/challenge-not-found", {}, offer(lie.terms));
						case "gone":
							return refusal("session/channel-not-found", { channelId: String(channelId) });
						case "more":
							return refusal("session/insufficient-balance", { requiredCumulative: required }, offer(lie.terms));
						case "step":
							return refusal("session/delta-too-small", { requiredCumulative: required }, offer(lie.terms));
						case "cut":
							await script(call);
							return "cut";
						case "metered": {
							const over = new Promise((resolve) => setTimeout(resolve, 20));
							return metered(script, { required: (paid) => paid + lie.by, over })(call);
						}
						default:
							return script(call);
					}
				});
				let given = 0;
				const { account } = agents;
				const agent = agents.add(
					{ approveAbove: THRESHOLD, maxStream: MAX_STREAM },
					{
						approve: (asked) => {
							const isGiven = answers[given++ % answers.length] ?? true;
							seen.push({ request, asked, isGiven });
							return isGiven;
						},
						account: {
							...account,
							signTypedData: async (typed) => {
								const { primaryType, message } = typed as unknown as Signed;
								if (primaryType === "Voucher")
									seen.push({
										request,
										voucher: message.cumulativeAmount as bigint,
										channelId: String(message.channelId),
									});
								else seen.push({ request, deposit: message.value as bigint, nonce: String(message.nonce) });
								return account.signTypedData(typed);
							},
						},
						retry: { retries: 1, minDelayMs: 0, maxDelayMs: 0 },
						stream: { aheadUnits: 3, stepUnits: 1 },
					},
				);
				for (; request < requests; request++) {
					const answer = await agent.get({ path: `/${request}` }).catch((error: unknown) => {
						expect(error).toBeInstanceOf(Error);
					});
					await answer?.text().catch(() => undefined);
				}
				expectApproved(seen);
				for (const one of seen) numbers["asked" in one ? "asked" : "deposit" in one ? "deposits" : "vouchers"]++;
			}),
			{ numRuns: 30, seed: 7 },
		);
		// The script has come to where it matters.
		expect(Math.min(...Object.values(numbers))).toBeGreaterThan(20);
	}, 120_000);

	/** The relay of the payee that a credential's challenge names. */
	function relayOf({ credential }: Call, relays: readonly [Relay, Relay]): Relay {
		const terms = JSON.parse(Buffer.from(credential?.challenge.request ?? "", "base64url").toString("utf8"));
		return relays[0].address === terms.recipient ? relays[0] : relays[1];
	}
});
