/** What the tests of settlements have in common: channels that owe, books that balance, and what the application is told. */
import { expect } from "vitest";
import { chainNow } from "../../../src/server/channel.ts";
import type { PaymentHooks, SettlementPolicy } from "../../../src/server/index.ts";
import { expectPaid } from "../../support/expect.ts";
import { rpc } from "../../support/sessionDrafts.ts";
import type { PaidServer, Payer, TestChannel, World } from "../../support/world.ts";

/** Longer than any test waits for something to be due by itself. */
export const NEVER_SECONDS = 10 * 365 * 86_400;

/** A policy under which nothing is due but what a test says. */
export const QUIET: SettlementPolicy = { maxAgeSeconds: NEVER_SECONDS, idleSeconds: NEVER_SECONDS };

/** What the application was told, in order. */
export type Told = [hook: keyof PaymentHooks, event: Readonly<Record<string, unknown>>][];

export function listen(): Readonly<{
	hooks: PaymentHooks;
	told: Told;
	of(hook: keyof PaymentHooks): Told[number][1][];
}> {
	const told: Told = [];
	const note = (hook: keyof PaymentHooks) => (event: object) => void told.push([hook, { ...event }]);
	const hooks: PaymentHooks = {
		onChannelClosed: note("onChannelClosed"),
		onSettled: note("onSettled"),
		onCloseRequested: note("onCloseRequested"),
		onAtRisk: note("onAtRisk"),
		onSettlementFailed: note("onSettlementFailed"),
	};
	return { hooks, told, of: (hook) => told.filter(([name]) => name === hook).map(([, event]) => event) };
}

/** Opens a channel and pays one request with a voucher of `amount`, all of which is owed on chain then. */
export async function owing(
	server: PaidServer,
	payer: Payer,
	amount: bigint,
	channel?: TestChannel,
): Promise<TestChannel> {
	const opened = channel ?? (await server.open(payer));
	const draft = await payer.voucher(await server.challenge("/session"), opened, amount);
	expectPaid(await server.pay("/session", draft));
	return opened;
}

/** A server with channels that owe these amounts. */
export async function owingChannels(
	server: PaidServer,
	payer: Payer,
	amounts: readonly bigint[],
): Promise<readonly TestChannel[]> {
	const channels: TestChannel[] = [];
	for (const amount of amounts) channels.push(await owing(server, payer, amount));
	return channels;
}

/** How much of the token payers, payee and escrow have together. */
async function sum(world: World, holders: readonly `0x${string}`[]): Promise<bigint> {
	const balances = await Promise.all(holders.map((holder) => world.balance(holder)));
	return balances.reduce((total, balance) => total + balance, 0n);
}

/** Money of a test: nothing is made or lost, and nothing is captured that was not owed. */
export async function openBooks(world: World, server: PaidServer, payers: readonly Payer[]) {
	const holders = [server.payee, world.escrow, ...payers.map(({ address }) => address)];
	const before = await sum(world, holders);
	return {
		/** Holds the books against the chain: of these channels everything that was delivered is on chain. */
		async balance(settled: readonly TestChannel[]): Promise<void> {
			expect(await sum(world, holders)).toBe(before);
			for (const channel of settled) {
				const [known, there] = await Promise.all([server.ledger(channel), world.onChain(channel)]);
				if (known === undefined || there === undefined) throw new Error("there is no such channel");
				expect(known.spent).toBeLessThanOrEqual(there.settled);
				expect(there.settled).toBeLessThanOrEqual(there.deposit);
				expect(chainNow(known)).toMatchObject({ settledOnChain: there.settled, finalized: there.finalized });
			}
		},
	};
}

/** Makes gas cost this much from now on, until blocks make it fall again. */
export async function setGasPrice({ chain }: World, baseFeePerGas: bigint): Promise<void> {
	await rpc(chain.client, "anvil_setNextBlockBaseFeePerGas", [`0x${baseFeePerGas.toString(16)}`]);
	await rpc(chain.client, "evm_mine", []);
}

/** What one settlement by itself costs now, in base units, where a coin is worth `coinPrice`. */
export async function costOfSettle({ chain }: World, coinPrice: bigint): Promise<bigint> {
	const { maxFeePerGas } = await chain.client.estimateFeesPerGas();
	return (58_200n * maxFeePerGas * coinPrice) / 10n ** 18n;
}

/** `expect.poll` for a busy machine. */
export const eventually = (look: () => unknown) => expect.poll(look, { timeout: 20_000 });

export async function all<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
	const found: T[] = [];
	for await (const item of items) found.push(item);
	return found;
}

/** Has the server send what is due, and the token refuse it between its broadcast and its block. */
export async function reverting({ chain, token }: World, server: PaidServer): Promise<void> {
	const code = await chain.client.getCode({ address: token });
	const pending = () => all(server.store.outbox({ state: "pending" }));
	await rpc(chain.client, "evm_setAutomine", [false]);
	try {
		const settling = server.engine.settle();
		await eventually(async () => (await pending()).length).toBe(1);
		const hash = (await pending())[0]?.hash;
		await eventually(() => rpc(chain.client, "eth_getTransactionByHash", [hash])).not.toBeNull();
		await rpc(chain.client, "anvil_setCode", [token, "0x60006000fd"]);
		await rpc(chain.client, "evm_mine", []);
		await settling;
	} finally {
		await rpc(chain.client, "anvil_setCode", [token, code]);
		await rpc(chain.client, "evm_setAutomine", [true]);
	}
}
