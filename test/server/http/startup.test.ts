import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createWorld, type ServerOptions, type World } from "../../support/world.ts";

let world: World;

beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());

const secret = "0123456789abcdef0123456789abcdef";
const nobody = privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as `0x${string}`;

describe("a server does not start on a mistake, and says which and how to mend it (D17)", () => {
	type Case = readonly [title: string, message: RegExp, options: () => Partial<ServerOptions>];
	const cases: readonly Case[] = [
		[
			"no contract at the escrow's address",
			/no contract at 0x[0-9a-f]{40} on chain 31337; deploy .*or fix its address/,
			() => ({ escrow: nobody }),
		],
		[
			"something else at the escrow's address",
			/does not answer as a PaymentChannelEscrow; fix its address/,
			() => ({ escrow: world.token }),
		],
		[
			"an RPC of another chain",
			/the RPC serves chain 31337, not 1; fix the RPC URL or the chain id/,
			() => ({ chainId: 1 }),
		],
		["something else than a token", /option currency: .* is not an ERC-20 token.*fix/, () => ({ token: world.escrow })],
		[
			"no token",
			/option currency: .* is not an ERC-20 token on chain 31337; fix its address/,
			() => ({ token: nobody }),
		],
		[
			"a name that the token does not sign with",
			/option currency: .* does not sign with the EIP-712 domain of the configured name "USDX".*\(option token\)/,
			() => ({ engine: { token: { name: "USDX", version: "2" } } }),
		],
		[
			"the same token twice",
			/option also: token 0x[0-9a-f]{40} on chain 31337 is there twice/,
			() => ({
				engine: {
					also: [
						{ client: world.chain.client, chainId: world.chain.chainId, currency: world.token, escrow: world.escrow },
					],
				},
			}),
		],
		["no secret", /secret/, () => ({ engine: { secrets: [] } })],
		["a short secret", /has 31 bytes; give at least 32/, () => ({ engine: { secrets: [secret.slice(1)] } })],
		["a short second secret", /has 4 bytes; give at least 32/, () => ({ engine: { secrets: [secret, "1234"] } })],
		[
			"chain state too old for the grace period",
			/option limits.maxChainStateAgeMs must be at most 45000: a twentieth of the escrow's grace period/,
			() => ({ engine: { limits: { maxChainStateAgeMs: 45_001 } } }),
		],
		[
			"a head too old for the grace period",
			/option limits.maxHeadAgeSeconds must be at most 75, or 0: with limits.maxChainStateAgeMs a tenth of the escrow's grace period/,
			() => ({ engine: { limits: { maxHeadAgeSeconds: 76 } } }),
		],
		[
			"chain state of no age",
			/option limits.maxChainStateAgeMs/,
			() => ({ engine: { limits: { maxChainStateAgeMs: 0 } } }),
		],
		["an unknown limit", /option limits.*maxAge/, () => ({ engine: { limits: { maxAge: 1 } as object } })],
		["a realm of nothing", /option realm/, () => ({ engine: { realm: "" } })],
		["a realm that can't be bound", /option realm/, () => ({ engine: { realm: "api|example" } })],
		["a realm that is not ASCII is refused at start-up", /option realm/, () => ({ engine: { realm: "café" } })],
		["a realm that can't stand in a header", /option realm/, () => ({ engine: { realm: "api\r\nexample" } })],
		["a negative minVoucherDelta", /option minVoucherDelta/, () => ({ engine: { minVoucherDelta: -1n } })],
		[
			"a minVoucherDelta that no voucher can reach",
			/option minVoucherDelta/,
			() => ({ engine: { minVoucherDelta: 2n ** 128n } }),
		],
	];

	it.each(cases)("%s", async (_title, message, options) => {
		const { engine, ...rest } = options();
		const started = await world.serve({ ...rest, engine: { secrets: [secret], ...engine } }).then(
			() => "it started",
			(error: unknown) => (error instanceof Error ? error : new Error(String(error))),
		);
		if (typeof started === "string") expect.fail(started);
		expect(started.message).toMatch(message);
		expect(started).toMatchObject({ code: expect.stringMatching(/^[A-Za-z_]+$/) });
		expect(started.message).not.toContain(secret.slice(1));
	});

	it("an RPC that is down; it starts once it is up", async () => {
		const options = await world.serverOptions({});
		options.rpc.down();
		const error: unknown = await world.serve(options).catch((reason: unknown) => reason);
		expect(error).toBeInstanceOf(Error);
		options.rpc.up();
		const server = await world.serve({ ...options, folder: `${options.folder}-2` });
		expect((await server.send("/session")).status).toBe(402);
	});

	it("the largest age that the grace period allows is allowed", async () => {
		for (const limits of [{ maxChainStateAgeMs: 45_000 }, { maxHeadAgeSeconds: 75 }]) {
			const server = await world.serve({ engine: { limits } });
			expect((await server.send("/session")).status).toBe(402);
		}
	});
});

describe("a server that starts", () => {
	const warnings = (logs: readonly { level: string; message: string }[]) =>
		logs.filter(({ level }) => level === "warn").map(({ message }) => message);

	it("warns when anyone can make it pay gas for next to nothing, and not when it has said what is worth it", async () => {
		const careless = await world.serve({ logs: [] });
		expect(warnings(careless.logs)).toEqual([expect.stringMatching(/set limits.minSponsoredDeposit/)]);
		const careful = await world.serve({ logs: [], engine: { limits: { minSponsoredDeposit: 1_000n } } });
		expect(warnings(careful.logs)).toEqual([]);
		const frugal = await world.serve({ logs: [], engine: { feePayer: false } });
		expect(warnings(frugal.logs)).toEqual([]);
	});
});
