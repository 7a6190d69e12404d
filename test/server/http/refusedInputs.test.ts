import { beforeAll, describe, expect, it } from "vitest";
import { type ProblemName, problemStatus } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { basesOn } from "../../support/refusedBases.ts";
import { changed, rowsOf, type Spoilt, unknownChallenge, upper, wrongShape } from "../../support/refusedInputs.ts";
import { approvedPayer } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	Clock,
	type Draft,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	withChallenge,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
/** Issues challenges of the same realm and secret that have expired. */
let past: PaidServer;
let payer: Payer;

const every = ["authorization", "permit2", "transaction", "hash"] as const;
const routes: Routes = (app, { handler }) => {
	const session = { price: PRICE, unitType: "request", description: "one answer" };
	app.get("/session", { config: { payment: session } }, handler("/session"));
	app.get(
		"/charge",
		{ config: { payment: { price: PRICE, intent: "charge", credentialTypes: [...every] } } },
		handler("/charge"),
	);
};

beforeAll(async () => {
	payer = await approvedPayer(world);
	const engine = { secrets: ["the same secret for now and for then"] };
	server = await world.serve({ engine, routes, fastify: { http: { maxHeaderSize: 65_536 } } });
	const clock = new Clock();
	clock.advance(-400_000);
	past = await world.serve({ engine, routes, clock, account: server.account });
});

describe.each(basesOn(() => ({ world, server, payer })))("$title", (base) => {
	const { intent, path, method, members } = base;
	/** A credential that would be taken: whatever is refused is refused for what was done to it. */
	let good: Draft;

	const fresh = async (at = path) => base.make(await server.challenge(at));
	const pay = (spoilt: Spoilt) => server.send(path, { method, authorization: spoilt });

	async function refused(name: ProblemName, spoilt: Spoilt): Promise<void> {
		const { channelId } = good.payload;
		const channels = typeof channelId === "string" ? [{ channelId: channelId as `0x${string}` }] : [];
		const answer = await unchanged(server, channels, () => pay(spoilt));
		if (method !== "HEAD") return expectRefusal(answer, name);
		// The same refusal without its body.
		expect(answer.status).toBe(problemStatus(name));
		expect(answer.receipt).toBeUndefined();
		expect(answer.header("cache-control")).toBe("no-store");
		expect(answer.challenges.length > 0).toBe(answer.status === 402);
	}

	beforeAll(async () => {
		good = await fresh();
	});

	// Each changes nothing, runs nothing and costs nothing.
	describe.each(rowsOf(base))("%s", (_what, rows) => {
		it.each(rows)("%s: %s", async (_title, name, spoil) => {
			await refused(name, spoil(good));
		});
	});

	describe("is refused", () => {
		it("with a challenge that has expired (D9)", async () => {
			await refused(unknownChallenge(intent), await base.make(await past.challenge(path)));
		});

		it("with the other intent's challenge, or its payload (D9)", async () => {
			const [otherPath, otherIntent] =
				intent === "session" ? ["/charge", "charge" as const] : ["/session", "session" as const];
			await refused(unknownChallenge(otherIntent), { ...good, challenge: await server.challenge(otherPath) });
			const other = await payer.charge(good.challenge, server.payee, PRICE);
			const payload = intent === "session" ? other.payload : { action: "voucher", channelId: `0x${"11".repeat(32)}` };
			await refused(wrongShape(intent), { ...good, payload });
		});
	});

	describe("is taken", () => {
		it("as it was all along", async () => {
			expectPaid(await pay(good));
		});

		it("with members that nobody knows, which are ignored, however deep", async () => {
			const { challenge, payload, ...rest } = await fresh();
			const more = {
				more: { action: "close", constructor: 1, deep: JSON.parse(`${"[".repeat(1_500)}${"]".repeat(1_500)}`) },
			};
			const within = Object.entries(payload).map(([name, value]) => [
				name,
				typeof value === "object" && !Array.isArray(value) ? { ...value, more: 1 } : value,
			]);
			const draft = {
				...rest,
				challenge: { ...challenge, more: 1 },
				payload: { ...Object.fromEntries(within), ...more },
			};
			expectPaid(await pay(encode({ ...draft, more: 1 })));
		});

		it("whatever has become of the description, which nothing relies on (core: Challenge Binding)", async () => {
			for (const description of ["something else", undefined])
				expectPaid(await pay(withChallenge(await fresh(), { description })));
		});

		const { address: addresses = [] } = members;
		if (addresses.length > 0)
			it("with addresses in any case", async () => {
				expectPaid(await pay(addresses.reduce((one, path) => changed(one, path, upper), await fresh())));
			});

		// The session draft wants lowercase hex; the charge draft does not.
		if (intent === "charge")
			it("with hex in any case", async () => {
				const paths = [
					...(members.bytes32 ?? []),
					...(members.bytes ?? []),
					...(members.signature ?? []).map(([path]) => path),
				];
				expectPaid(await pay(paths.reduce((one, path) => changed(one, path, upper), await fresh())));
			});

		it("with the scheme in any case, and beside another scheme", async () => {
			const header = encode(await fresh()).replace("Payment ", "pAYMENT   ");
			expectPaid(await pay(["Basic dTpw", header]));
		});
	});
});

it("a header longer than any may be is refused by the server itself", async () => {
	const answer = await unchanged(past, [], () =>
		past.send("/session", { authorization: `Payment ${"A".repeat(40_000)}` }),
	);
	expect(answer.status).toBe(431);
});
