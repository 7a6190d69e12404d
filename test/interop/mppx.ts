/** mppx 0.11 as others run it: its client over real sockets, its server behind `node:http`, settling on the test's chain. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Errors } from "mppx";
import { evm as evmClient, Mppx as MppxClient } from "mppx/client";
import { evm as evmServer, Request as MppxRequest, Mppx as MppxServer } from "mppx/server";
import { type Address, encodeFunctionData, type Hex, type LocalAccount, parseAbi } from "viem";
import { sendFrom, type World } from "../support/world.ts";

/** The realm of mppx's server, and a secret that both sides accept. */
export const REALM = "mppx.test.local";
export const SECRET = "a secret that mppx and sluice share for tests";

/** Decimals of the test token: mppx takes amounts in whole tokens. */
const DECIMALS = 6;

// Written out here, not taken from the product: what mppx signs is carried to the chain by nothing of ours.
const tokenAbi = parseAbi([
	"function name() view returns (string)",
	"function version() view returns (string)",
	"function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature)",
]);

/** The token's EIP-712 name and version, which mppx takes from its configuration. */
export async function tokenMetadata({ chain: { client }, token }: Pick<World, "chain" | "token">) {
	const read = (functionName: "name" | "version") =>
		client.readContract({ address: token, abi: tokenAbi, functionName });
	const [name, version] = await Promise.all([read("name"), read("version")]);
	return { name, version };
}

/** mppx's client for a payer, which answers `tries` challenges at most for one request (mppx's own default is 3). */
export async function mppxClient(
	world: Pick<World, "chain" | "token">,
	account: LocalAccount,
	{ tries = 1, maxAtomicAmount = "1000" }: Readonly<{ tries?: number; maxAtomicAmount?: string }> = {},
) {
	return MppxClient.create({
		polyfill: false,
		maxPaymentRetries: tries,
		methods: [
			evmClient.charge({
				account,
				authorization: await tokenMetadata(world),
				networks: [world.chain.chainId],
				currencies: [world.token],
				maxAtomicAmount,
			}),
		],
	});
}

export type MppxServerOptions = Readonly<{
	/** Price in whole tokens; "0.0001" is 100 base units. */
	amount?: string;
	/** A price that is offered as well, and first. */
	dearer?: string;
	description?: string;
	externalId?: string;
	/** Says where the money goes; by default a fresh account of the test. */
	recipient: Address;
}>;

export type RunningMppxServer = Readonly<{
	url: string;
	host: string;
	/** How often the paid handler ran. */
	served(): number;
	/** Transactions sent to settle. */
	settlements: readonly Hex[];
	stop(): Promise<void>;
}>;

/** mppx's `evm` charge server on a socket. It settles with an account of its own that has gas. */
export async function startMppxServer(world: World, options: MppxServerOptions): Promise<RunningMppxServer> {
	const { amount = "0.0001", dearer, description, externalId, recipient } = options;
	const { account } = await world.payer({ gas: true, funds: 0n });
	const settlements: Hex[] = [];
	let served = 0;
	const mppx = MppxServer.create({
		realm: REALM,
		secretKey: SECRET,
		methods: [
			evmServer.charge({
				currency: world.token,
				chainId: world.chain.chainId,
				decimals: DECIMALS,
				authorization: await tokenMetadata(world),
				recipient,
				settle: async ({ payload }) => {
					const reference = await settle(world, account, payload as WirePayload);
					settlements.push(reference);
					return { reference };
				},
			}),
		],
	});
	const texts = { ...(description !== undefined && { description }), ...(externalId !== undefined && { externalId }) };
	const charge = "evm/charge" as const;
	const route =
		dearer === undefined
			? mppx.evm.charge({ amount, ...texts })
			: mppx.compose([charge, { amount: dearer, ...texts }], [charge, { amount, ...texts }]);
	const listener = MppxRequest.toNodeListener(async (request) => {
		const outcome = await route(request);
		if (outcome.status === 402) return outcome.challenge;
		served += 1;
		return outcome.withReceipt(Response.json({ served }));
	});
	const server = createServer(listener);
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
	return {
		url: `http://${host}`,
		host,
		served: () => served,
		settlements,
		async stop() {
			server.closeAllConnections();
			server.close();
			await once(server, "close");
		},
	};
}

type WirePayload = Readonly<{
	from: Address;
	to: Address;
	value: string;
	validAfter: string;
	validBefore: string;
	nonce: Hex;
	signature: Hex;
}>;

/** Asks the token first: mppx leaves replay and balance to whoever settles, and answers a typed error with a 402. */
async function settle({ chain, token }: World, account: LocalAccount, payload: WirePayload): Promise<Hex> {
	const { from, to, value, validAfter, validBefore, nonce, signature } = payload;
	const data = encodeFunctionData({
		abi: tokenAbi,
		functionName: "transferWithAuthorization",
		args: [from, to, BigInt(value), BigInt(validAfter), BigInt(validBefore), nonce, signature],
	});
	try {
		await chain.client.call({ account: account.address, to: token, data });
	} catch {
		throw new Errors.VerificationFailedError({ reason: "the token refuses the transfer" });
	}
	return sendFrom({ client: chain.client, chainId: chain.chainId }, account, { to: token, data });
}
