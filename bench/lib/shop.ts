/** The engine over a store on disk, with the stage's channels in its books: what benches sell by. */
import { Level } from "level";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { type ChannelStore, type EngineOptions, LevelStore, PaymentEngine } from "../../src/server/index.ts";
import { applyEvent } from "../../src/server/ledger.ts";
import type { Place } from "./stage.ts";

export type Shop = Readonly<{ engine: PaymentEngine; store: ChannelStore; close(): Promise<void> }>;

/**
 * Opens the shop.
 *
 * @param fsync whether what is acknowledged waits for the disk, as it does for every user; without, for comparison alone
 */
export async function openShop(
	place: Place,
	{
		folder,
		fsync = true,
		options = {},
	}: Readonly<{ folder: string; fsync?: boolean; options?: Partial<EngineOptions> }>,
): Promise<Shop> {
	const store = fsync ? await LevelStore.open({ folder }) : await LevelStore.over(await withoutSync(folder));
	await enterChannels(store, place);
	const usual = engineOptions(place, store);
	const limits = { ...usual.limits, ...options.limits };
	const engine = await PaymentEngine.start({ ...usual, ...options, limits });
	return {
		engine,
		store,
		async close() {
			await engine.stop();
			await store.close();
		},
	};
}

const tell = (values: object, message: string) => console.error(message, values);

/** What the shop's engine is started with. */
export function engineOptions(
	{ rpcUrl, chainId, token, escrow, payeeKey, secret }: Place,
	store: ChannelStore,
): EngineOptions {
	return {
		realm: "bench.sluice.local",
		client: createPublicClient({ transport: http(rpcUrl), pollingInterval: 1_000 }),
		chainId,
		escrow,
		currency: token,
		account: privateKeyToAccount(payeeKey),
		secrets: [secret],
		store,
		limits: { minSponsoredDeposit: 1n },
		// What an engine warns of changes what is measured: a thread that does not run, say.
		log: { info: () => undefined, warn: tell, error: tell },
	};
}

/** As if their payers had opened them here: nothing spent, nothing signed. */
async function enterChannels(
	store: ChannelStore,
	{ chainId, escrow, token, payeeKey, channels }: Place,
): Promise<void> {
	const payee = privateKeyToAccount(payeeKey).address.toLowerCase() as `0x${string}`;
	await Promise.all(
		channels.map(async ({ channelId, payer, signerKey, deposit }) => {
			const authorizedSigner = privateKeyToAccount(signerKey).address.toLowerCase() as `0x${string}`;
			const step = applyEvent(
				undefined,
				{
					type: "opened",
					identity: { channelId, chainId, escrow, payer, payee, token, authorizedSigner },
					chain: { deposit, settledOnChain: 0n, closeRequestedAt: 0, finalized: false, blockNumber: 0 },
					voucher: { cumulativeAmount: 0n, signature: "0x", challengeId: "" },
					minimum: 0n,
				},
				Date.now(),
			);
			if (!step.ok) throw new Error(step.problem.detail);
			const { durable } = await store.transact({ channel: channelId }, () => ({
				value: undefined,
				writes: { channel: step.channel },
			}));
			await durable;
		}),
	);
}

async function withoutSync(folder: string): Promise<Level<string, string>> {
	const mebibyte = 1024 * 1024;
	const disk = new Level<string, string>(folder, { writeBufferSize: 16 * mebibyte, cacheSize: 32 * mebibyte });
	await disk.open();
	return new Proxy(disk, {
		get(target, name) {
			if (name === "batch")
				return () => {
					const batch = target.batch();
					const write = batch.write.bind(batch);
					return Object.assign(batch, { write: () => write({ sync: false }) });
				};
			const member = Reflect.get(target, name, target);
			return typeof member === "function" ? member.bind(target) : member;
		},
	});
}
