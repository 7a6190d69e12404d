import { type Hex, maxUint256 } from "viem";
import { testUsdcBytecode } from "../../src/cli/demo/generated/testUsdc.ts";
import { testErc3009Bytecode } from "./generated/testErc3009.ts";
import { createWorld, DEPOSIT, RICH, type World } from "./world.ts";

/** What is measured, in the order it is shown. Gas of whole transactions, but for `settleManyRowBytes`. */
export const OPERATIONS = [
	"open",
	"openDelegated",
	"openWithAuthorization",
	"topUp",
	"topUpWithAuthorization",
	"settle",
	"close",
	"closeForfeit",
	"requestClose",
	"withdraw",
	"settleWithAuthorization",
	"closeWithAuthorization",
	"settleMany100",
	"settleManyRow",
	"settleManyRowBytes",
	"closeManyRow",
	"life",
] as const;

export type Operation = (typeof OPERATIONS)[number];

export type Measurements = Readonly<Record<Operation, number>>;

const AMOUNT = 1_234_567n;

/**
 * `erc3009` are the figures that have goals: a token that checks an EIP-3009 signature and nothing else, an unlimited
 * approval. The others say what else users may meet: a token that, like USDC 2.2, first looks whether the payer is a
 * contract, and an approval of a limited amount, which the token has to write down anew.
 */
export type GasReport = Readonly<{
	erc3009: Measurements;
	usdcLike: Partial<Measurements>;
	limitedApproval: Partial<Measurements>;
}>;

/** Weighs every operation once, each in a transaction of its own, on chains started for the purpose. */
export async function measure(): Promise<GasReport> {
	const all = await inWorld(testErc3009Bytecode, maxUint256, async (world) => ({
		...(await single(world)),
		...(await batches(world)),
	}));
	const erc3009 = Object.fromEntries(OPERATIONS.map((operation) => [operation, all[operation]])) as Measurements;
	const usdc = await inWorld(testUsdcBytecode, maxUint256, single);
	const limited = await inWorld(testErc3009Bytecode, RICH, single);
	return { erc3009, usdcLike: dearer(usdc, erc3009), limitedApproval: dearer(limited, erc3009) };
}

/** The figures that came out higher. */
function dearer(figures: Partial<Measurements>, than: Measurements): Partial<Measurements> {
	const higher = OPERATIONS.filter((operation) => (figures[operation] ?? 0) > than[operation]);
	return Object.fromEntries(higher.map((operation) => [operation, figures[operation]]));
}

async function inWorld<T>(tokenBytecode: Hex, approval: bigint, weigh: (world: World) => Promise<T>): Promise<T> {
	const world = await createWorld(tokenBytecode, approval);
	try {
		return await weigh(world);
	} finally {
		await world.stop();
	}
}

async function single(world: World) {
	const { payer, payee, toEscrow, open, voucher } = world;
	const opened = await open();
	const delegated = await open(world.delegate);
	const authorized = await world.openWithAuthorization(payer);
	const { channelId } = opened;

	const topUp = await toEscrow(payer, "topUp", [channelId, DEPOSIT]);
	const topUpWithAuthorization = await world.topUpWithAuthorization(opened);
	const settle = await toEscrow(payee, "settle", [channelId, AMOUNT, await voucher(opened, AMOUNT)]);
	const closeForfeit = await toEscrow(payee, "close", [channelId, AMOUNT, "0x"]);

	const last = [authorized.channelId, AMOUNT, await voucher(authorized, AMOUNT)];
	const close = await toEscrow(payee, "close", last);

	const relayed = await open();
	await world.relay("settle", relayed, AMOUNT, 0n);
	const settleWithAuthorization = await world.relay("settle", relayed, 2n * AMOUNT, 1n);
	const closeWithAuthorization = await world.relay("close", await open(), AMOUNT, 0n);

	const requestClose = await toEscrow(payer, "requestClose", [delegated.channelId]);
	await world.passGracePeriod();
	const withdraw = await toEscrow(payer, "withdraw", [delegated.channelId]);

	return {
		open: opened.gas,
		openDelegated: delegated.gas,
		openWithAuthorization: authorized.gas,
		topUp: topUp.gas,
		topUpWithAuthorization: topUpWithAuthorization.gas,
		settle: settle.gas,
		close: close.gas,
		closeForfeit: closeForfeit.gas,
		requestClose: requestClose.gas,
		withdraw: withdraw.gas,
		settleWithAuthorization: settleWithAuthorization.gas,
		closeWithAuthorization: closeWithAuthorization.gas,
		life: authorized.gas + close.gas,
	};
}

async function batches({ batch }: World) {
	const settle50 = await batch("settleMany", 50);
	const settle100 = await batch("settleMany", 100);
	const close50 = await batch("closeMany", 50);
	const close100 = await batch("closeMany", 100);
	return {
		settleMany100: settle100.gas,
		settleManyRow: (settle100.gas - settle50.gas) / 50,
		settleManyRowBytes: (settle100.bytes - settle50.bytes) / 50,
		closeManyRow: (close100.gas - close50.gas) / 50,
	};
}
