import type { Address } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Challenge, decodeRequest, parseChargeRequest, parseSessionRequest } from "../../../src/protocol/index.ts";
import { OfferError } from "../../../src/server/index.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { rpc } from "../../support/chargeDrafts.ts";
import { expectRefusal, unchanged } from "../../support/expect.ts";
import {
	createWorld,
	DEPOSIT,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	type ServerOptions,
	type World,
} from "../../support/world.ts";

const session = { price: PRICE };
const charge = { price: PRICE, intent: "charge" } as const;

const routes: Routes = (app, { handler }) => {
	app.get("/session", { config: { payment: session } }, handler("/session"));
	app.get("/both", { config: { payment: [session, charge] } }, handler("/both"));
};

let world: World;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer({ gas: true });
});
afterAll(() => world.stop());

const serve = (options: Partial<ServerOptions> = {}) => world.serve({ routes, ...options });

/** What the challenges of a 402 say of how they can be paid. */
async function advertised(server: PaidServer, path = "/both") {
	const { challenges } = await server.send(path);
	return challenges.map((challenge) => {
		const { feePayer, credentialTypes } = detailsOf(challenge);
		return { ...(feePayer !== undefined && { feePayer }), credentialTypes };
	});
}

function detailsOf(challenge: Challenge): { feePayer?: boolean; credentialTypes?: readonly string[] } {
	const request = decodeRequest(challenge);
	return challenge.intent === "session"
		? parseSessionRequest(request).methodDetails
		: parseChargeRequest(request).methodDetails;
}

/** Code that knows `balanceOf` and nothing else: a plain token, as far as a server asks. */
async function plainToken(): Promise<Address> {
	const token = "0x00000000000000000000000000000000000c0ffe";
	const code = "0x60003560e01c6370a0823114601357600080fd5b600160005260206000f3";
	await rpc(world.chain.client, "anvil_setCode", [token, code]);
	return token;
}

/** As if Permit2 were not on this chain. */
async function withoutPermit2<T>(action: () => Promise<T>): Promise<T> {
	const { client } = world.chain;
	const code = await client.getCode({ address: CANONICAL_PERMIT2 });
	await rpc(client, "anvil_setCode", [CANONICAL_PERMIT2, "0x"]);
	try {
		return await action();
	} finally {
		await rpc(client, "anvil_setCode", [CANONICAL_PERMIT2, code]);
	}
}

describe("what a server advertises", () => {
	it("every challenge lists its credential types, whatever token, chain and gas can do", async () => {
		const token = await plainToken();
		const bare = { feePayer: false };
		const servers = [
			await serve(),
			await serve({ engine: bare }),
			await serve({ token }),
			...(await withoutPermit2(async () => [
				await serve(),
				await serve({ token }),
				await serve({ token, engine: bare }),
			])),
		];
		for (const server of servers) {
			const types = (await advertised(server)).map(({ credentialTypes }) => credentialTypes?.length ?? 0);
			expect(types).toHaveLength(2);
			expect(Math.min(...types)).toBeGreaterThan(0);
		}
	});

	it("authorization is listed by a session only for a token with EIP-3009, and refused where it is not listed", async () => {
		const token = await plainToken();
		const server = await serve({ token });
		const [offer] = await advertised(server, "/session");
		expect(offer).toEqual({ feePayer: true, credentialTypes: ["permit2", "hash"] });
		expect(() => server.engine.offers("GET /x", { ...session, credentialTypes: ["authorization"] })).toThrow(
			OfferError,
		);
		const channel = payer.channelIn(token, server.payee);
		const draft = await payer.open(await server.challenge("/session"), channel, { deposit: DEPOSIT, amount: PRICE });
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "method-unsupported");
	});

	it("a fee payer is advertised only where there is something that it could submit", async () => {
		const token = await plainToken();
		const [plain, native] = await withoutPermit2(async () => [await serve({ token }), await serve()] as const);
		expect(await advertised(plain, "/session")).toEqual([{ credentialTypes: ["hash"] }]);
		expect(await advertised(native, "/session")).toEqual([
			{ feePayer: true, credentialTypes: ["authorization", "hash"] },
		]);
		expect(() => plain.engine.offers("GET /x", { ...session, credentialTypes: ["permit2"] })).toThrow(OfferError);
	});
});
