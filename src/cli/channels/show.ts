import type { Hex } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { type EscrowChannel, readChannel } from "../../escrow/reads.ts";
import { type Channel, chainNow, unsettled } from "../../server/channel.ts";
import { channelsOf } from "../../server/settlement/operator.ts";
import type { AuditEntry, ChannelStore } from "../../server/store/store.ts";
import { openChain } from "../shared/chain.ts";
import { channelRow } from "../shared/channelRow.ts";
import type { CommonOptions, Run } from "../shared/command.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";
import { withStoreCopy } from "../shared/storeCopy.ts";
import { type Column, pairs, writeTable } from "../shared/table.ts";
import { moment } from "../shared/words.ts";
import { ChannelNotFoundError } from "./errors.ts";

export type ShowOptions = CommonOptions & Readonly<{ data: string }>;

/** A transaction about the channel, without what is signed. */
type TransactionRow = Readonly<{
	hash: string;
	state: string;
	kind: string;
	nonce: number;
	from: string;
	createdAt: string;
	/** How many versions with other fees there were. */
	versions: number;
	blockNumber?: number;
	final?: boolean;
}>;

/** Shows one channel: what the ledger, the outbox and the audit log have of it; with an RPC, what the chain says now. */
export function showChannel(run: Run, channelId: Hex, options: ShowOptions): Promise<ExitCode> {
	const { out, format } = run;
	return withStoreCopy(options.data, async (store) => {
		const channel = await store.channel(channelId);
		if (channel === undefined) throw new ChannelNotFoundError([channelId], options.data);
		const ledger = details(channel);
		const transactions = await transactionsOf(store, channelId);
		const audit = await auditOf(store, channelId);
		const chain = options.rpc === undefined ? undefined : await onChain(options.rpc, channel);
		if (format === "json") {
			await out.line(JSON.stringify({ channel: ledger, transactions, audit, ...(chain && { chain }) }));
			return EXIT.done;
		}
		await out.write(pairs(Object.entries(ledger).map(([name, value]) => [name, String(value)])));
		if (chain !== undefined) {
			await out.line("\non chain now");
			await out.write(pairs(Object.entries(chain).map(([name, value]) => [name, shown(value)])));
		}
		if (transactions.length > 0) await out.line("\ntransactions");
		await writeTable(out, TRANSACTION_COLUMNS, transactions);
		if (audit.length > 0) await out.line("\naudit log");
		await writeTable(out, AUDIT_COLUMNS, audit);
		return EXIT.done;
	});
}

function details(channel: Channel) {
	const { authorizedSigner, contractSigner, publishedCumulative, closeTxHash, deferredAt, generation } = channel;
	return {
		...channelRow(channel),
		authorizedSigner,
		contractSigner,
		publishedCumulative: publishedCumulative === null ? null : String(publishedCumulative),
		closeTxHash,
		closingBy: channel.closingBy,
		deferredAt: deferredAt === 0 ? null : moment(deferredAt),
		runningRequests: Object.keys(channel.reservations).length,
		generation,
		chainReadAt: moment(channel.chainReadAt),
	};
}

async function transactionsOf(store: ChannelStore, channelId: Hex): Promise<readonly TransactionRow[]> {
	const rows: TransactionRow[] = [];
	for await (const entry of store.outbox({ state: "any" })) if (isAbout(entry, channelId)) rows.push(rowOf(entry));
	return rows;
}

function isAbout({ purpose }: OutboxEntry, channelId: Hex): boolean {
	return purpose.channelId === channelId || channelsOf(purpose).includes(channelId);
}

function rowOf({ hash, state, purpose, nonce, from, createdAt, bids = [], minedIn }: OutboxEntry): TransactionRow {
	return {
		hash: minedIn?.transactionHash ?? hash,
		state,
		kind: purpose.kind,
		nonce,
		from,
		createdAt: moment(createdAt),
		versions: 1 + bids.length,
		...(minedIn && { blockNumber: minedIn.blockNumber, final: minedIn.final }),
	};
}

type AuditRow = Readonly<{ at: string; kind: string; values: AuditEntry["values"] }>;

async function auditOf(store: ChannelStore, channelId: Hex): Promise<readonly AuditRow[]> {
	const rows: AuditRow[] = [];
	for await (const { at, kind, channelId: about, values } of store.audit()) {
		if (about === channelId) rows.push({ at: moment(at), kind, values });
	}
	return rows;
}

/** What the escrow has now, and how that differs from what the ledger knows. */
async function onChain(rpc: readonly string[], channel: Channel) {
	const { client, close } = await openChain(rpc, channel.chainId);
	try {
		const blockNumber = await client.getBlockNumber();
		const found = await readChannel(client, channel.escrow, channel.channelId, blockNumber);
		if (found === undefined) return { blockNumber: Number(blockNumber), exists: false };
		const { deposit, settled, closeRequestedAt, finalized } = found;
		return {
			blockNumber: Number(blockNumber),
			exists: true,
			deposit: String(deposit),
			settledOnChain: String(settled),
			closeRequestedAt,
			finalized,
			unsettled: String(unsettled({ ...channel, behind: null, deposit, settledOnChain: settled, finalized })),
			difference: differenceOf(channel, found),
		};
	} finally {
		await close();
	}
}

/** What the chain has more than the ledger knows (negative: less); empty where both say the same. */
function differenceOf(channel: Channel, found: EscrowChannel): Readonly<Record<string, string>> {
	const known = chainNow(channel);
	const amounts = { deposit: found.deposit - known.deposit, settledOnChain: found.settled - known.settledOnChain };
	const numbers = Object.entries(amounts).filter(([, amount]) => amount !== 0n);
	return {
		...Object.fromEntries(numbers.map(([name, amount]) => [name, String(amount)])),
		...(found.closeRequestedAt !== known.closeRequestedAt && { closeRequestedAt: String(found.closeRequestedAt) }),
		...(found.finalized !== known.finalized && { finalized: String(found.finalized) }),
	};
}

function shown(value: unknown): string {
	if (typeof value !== "object" || value === null) return String(value);
	const members = Object.entries(value);
	return members.length === 0 ? "none" : members.map(([name, member]) => `${name} ${member}`).join(", ");
}

const TRANSACTION_COLUMNS: readonly Column<TransactionRow>[] = [
	{ title: "hash", width: 66, text: ({ hash }) => hash },
	{ title: "kind", width: 7, text: ({ kind }) => kind },
	{ title: "state", width: 9, text: ({ state }) => state },
	{ title: "nonce", width: 6, right: true, text: ({ nonce }) => String(nonce) },
	{ title: "block", width: 10, right: true, text: ({ blockNumber }) => String(blockNumber ?? "") },
	{ title: "created", width: 24, text: ({ createdAt }) => createdAt },
];

const AUDIT_COLUMNS: readonly Column<AuditRow>[] = [
	{ title: "at", width: 24, text: ({ at }) => at },
	{ title: "kind", width: 10, text: ({ kind }) => kind },
	{ title: "values", width: 20, text: ({ values }) => shown(values) },
];
