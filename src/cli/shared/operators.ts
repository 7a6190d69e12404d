/** Opens what settling out of a store takes: the store, the chain, and somebody who deals with the channels. */
import type { Address, LocalAccount } from "viem";
import { toAccount } from "viem/accounts";
import { type Channel, chainNow } from "../../server/channel.ts";
import type { EngineLog } from "../../server/context.ts";
import { DamageReport } from "../../server/damage.ts";
import { type ChannelGroup, groupKey, Operator } from "../../server/settlement/operator.ts";
import { LevelStore } from "../../server/store/index.ts";
import type { ChannelStore } from "../../server/store/store.ts";
import { type Chain, openChain } from "./chain.ts";
import type { Run } from "./command.ts";
import { UsageError } from "./exit.ts";
import { type KeyOptions, type Keys, readKeys } from "./keys.ts";
import { withStoreCopy } from "./storeCopy.ts";

export type SettlementOptions = KeyOptions &
	Readonly<{
		data: string;
		chainId?: number;
		/** Seconds that a transaction is waited for. */
		timeout: number;
		/** Base units. */
		minValue?: bigint;
		/** Base units of the token that one coin of the chain is worth. */
		coinPrice?: bigint;
		force?: boolean;
	}>;

/** What a store holds, besides what is of another chain or payee. */
export type Workshop = Readonly<{
	store: ChannelStore;
	chain: Chain;
	/** By payee: one with a key, one for each where nothing is sent. */
	operators: ReadonlyMap<Address, Operator>;
	/** Another account than the payee pays the gas. */
	relayed: boolean;
	/** Channels that may owe something and are not these payees' or this chain's: they are left alone. */
	others: Readonly<{ chains: number; payees: number }>;
}>;

/**
 * Opens the store itself, which no server may have open, or for a dry run a copy of it; and takes up what was left on its way.
 *
 * @param name what another process is told that wants the store meanwhile
 */
export async function withOperators<T>(
	run: Run,
	options: SettlementOptions,
	name: string,
	work: (workshop: Workshop) => Promise<T>,
): Promise<T> {
	const keys = await readKeys(run, options);
	const chain = await openChain(options.rpc, options.chainId);
	try {
		return await withStore(options, name, (store) => inWorkshop(run, options, { keys, chain, store }, work));
	} finally {
		await chain.close();
	}
}

async function withStore<T>(
	{ data, dryRun = false }: SettlementOptions,
	name: string,
	work: (store: ChannelStore) => Promise<T>,
): Promise<T> {
	if (dryRun) return withStoreCopy(data, work);
	const store = await LevelStore.open({ folder: data, mustExist: true, name });
	try {
		return await work(store);
	} finally {
		await store.close();
	}
}

async function inWorkshop<T>(
	run: Run,
	options: SettlementOptions,
	{ keys, chain, store }: Readonly<{ keys: Keys; chain: Chain; store: ChannelStore }>,
	work: (workshop: Workshop) => Promise<T>,
): Promise<T> {
	const { client, chainId } = chain;
	const { payee, relayer } = keys;
	const log = logTo(run);
	const found = await groupsOf(store);
	// Before anything else can fail.
	new DamageReport(store, log).tell();
	const here = found.groups.filter((group) => group.chainId === chainId);
	const payees = payee === undefined ? new Set(here.map((group) => group.payee)) : new Set([payee.address]);
	const operators = new Map<Address, Operator>();
	const shared = {
		client,
		chainId,
		store,
		log,
		policy: policyOf(options),
		limits: { transactionTimeoutMs: options.timeout * 1_000 },
		...(relayer && { relayer: relayer.account }),
	};
	try {
		for (const address of payees) {
			const operator = await Operator.start({ ...shared, account: payee?.account ?? unsigning(address) }, here);
			operators.set(address, operator);
			if (!options.dryRun) await operator.takeUp();
		}
		const others = {
			chains: found.count((group) => group.chainId !== chainId),
			payees: found.count((group) => group.chainId === chainId && !payees.has(group.payee)),
		};
		const relayed = relayer !== undefined && !payees.has(relayer.address);
		return await work({ store, chain, operators, relayed, others });
	} finally {
		for (const operator of operators.values()) await operator.stop();
	}
}

/** Channels that are not finalized, by what they have in common, and how many of them may owe something. */
async function groupsOf(store: ChannelStore) {
	const groups = new Map<string, { group: ChannelGroup; owing: number }>();
	for await (const channel of store.channels()) {
		if (chainNow(channel).finalized) continue;
		const { chainId, escrow, token, payee } = channel;
		const key = groupKey(channel);
		const known = groups.get(key) ?? { group: { chainId, escrow, token, payee }, owing: 0 };
		groups.set(key, { ...known, owing: known.owing + (mayOwe(channel) ? 1 : 0) });
	}
	const all = [...groups.values()];
	return {
		groups: all.map(({ group }) => group),
		count: (isMeant: (group: ChannelGroup) => boolean) =>
			all.filter(({ group }) => isMeant(group)).reduce((sum, { owing }) => sum + owing, 0),
	};
}

/** Whether the chain may owe something for a channel, whatever the store knew of the chain when it was copied. */
export function mayOwe(channel: Channel): boolean {
	return !chainNow(channel).finalized && channel.acceptedCumulative > 0n;
}

function policyOf({ minValue, coinPrice }: SettlementOptions) {
	return { ...(minValue !== undefined && { minValue }), ...(coinPrice !== undefined && { coinPrice }) };
}

/** A payee without its key, for looking only. */
function unsigning(address: Address): LocalAccount {
	const refuse = async (): Promise<never> => {
		throw new UsageError("a dry run signs nothing");
	};
	return toAccount({ address, signMessage: refuse, signTransaction: refuse, signTypedData: refuse });
}

/** What the engine's parts want operators to know. Values hold no secrets; the redactor sees to what nodes answer. */
function logTo({ say }: Run): EngineLog {
	const tell = (level: string) => (values: object, message: string) => {
		const members = Object.entries(values).map(([name, value]) => `${name} ${String(value)}`);
		say(`${level}: ${message}${members.length === 0 ? "" : ` (${members.join(", ")})`}`);
	};
	return { info: () => undefined, warn: tell("warning"), error: tell("error") };
}
