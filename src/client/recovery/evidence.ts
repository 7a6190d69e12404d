import type { Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { readEscrowEvents } from "../../escrow/escrowEvents.ts";
import { readChannel, readCloseGraceSeconds } from "../../escrow/reads.ts";
import { type Challenge, toWire } from "../../protocol/index.ts";
import {
	createVoucherDomain,
	createVoucherVerifier,
	sameAddress,
	signVoucher,
	type TypedDataSigner,
	voucherSigner,
} from "../../voucher/index.ts";
import { bareUrl } from "../bareUrl.ts";
import type { ChannelRecord, ReceiptRecord } from "../store/store.ts";
import { blockAt } from "./blockAt.ts";
import { EVIDENCE_FORMAT, EVIDENCE_VERSION, type Evidence } from "./evidenceSchema.ts";
import { findRecord } from "./held.ts";
import type { EvidenceParts } from "./parts.ts";

/** How far the payer's clock may be ahead of the chain's, in seconds, for all of a channel's events to be found. */
const CLOCK_SLACK_SECONDS = 3_600;

/** How many blocks are searched for events at most, the newest ones. */
const MOST_BLOCKS = 2_000_000n;

export type EvidenceOptions = Readonly<{
	/** Whether the highest voucher is signed again, where its signer is at hand. Default: yes. */
	withVoucher?: boolean | undefined;
}>;

/**
 * Everything about one channel for a dispute, as one JSON document: what it is made of, the highest voucher (signed again,
 * which gives the same signature: nothing new is signed away), the challenges, the server's receipts, what the chain says, and
 * what the payer has sent to get its deposit back. URLs are without query and fragment. `verifyEvidence` checks it, also for a stranger.
 *
 * Until the channel is paid out its voucher's signature is a secret between payer and payee: keep the document as the wallet.
 *
 * @throws ChannelUnknownError; a node that can't be asked leaves its part out
 * @example
 * await writeFile("channel.json", JSON.stringify(await evidence(parts, channelId)));
 */
export async function evidence(
	parts: EvidenceParts,
	channelId: Hex,
	{ withVoucher = true }: EvidenceOptions = {},
): Promise<Evidence> {
	const record = await findRecord(parts, channelId);
	const { chainId, escrow, payer, payee, token, authorizedSigner, salt, resource } = record.state;
	const { deposit, signed, consumed, uncertain } = record.state;
	const receipts = (await parts.store.receipts()).filter((one) => one.channelId === channelId).toReversed();
	const [voucher, chain] = await Promise.all([
		voucherOf(record, withVoucher ? (parts.signers ?? []) : undefined),
		chainOf(parts, record).catch(() => undefined),
	]);
	return {
		format: EVIDENCE_FORMAT,
		version: EVIDENCE_VERSION,
		createdAt: moment(parts.now()),
		channel: {
			...{ channelId, chainId, escrow, payer, payee, token, authorizedSigner },
			...(salt !== undefined && { salt }),
		},
		resource: { url: bareUrl(resource.url), method: resource.method },
		wallet: { status: record.status, deposit, signed, consumed, uncertain, createdAt: moment(record.createdAtMs) },
		...(voucher && { voucher }),
		challenges: challengesOf(record, receipts),
		receipts: receipts.map(({ kind, atMs, url, method, amount, challenge, receipt }) => ({
			...{ kind, at: moment(atMs), url: bareUrl(url), method, amount, challengeId: challenge.id },
			receipt: receipt as Evidence["receipts"][number]["receipt"],
		})),
		...(chain && { chain }),
		recovery: (record.recovery ?? []).map(({ kind, hash, nonce, atMs }) => ({ kind, hash, nonce, at: moment(atMs) })),
	};
}

async function voucherOf(
	{ state, sessionKey }: ChannelRecord,
	signers: readonly TypedDataSigner[] | undefined,
): Promise<Evidence["voucher"]> {
	const cumulativeAmount = BigInt(state.signed);
	if (cumulativeAmount === 0n) return undefined;
	const signer = voucherSigner(state);
	const voucher = { cumulativeAmount: state.signed, signer };
	if (signers === undefined) return voucher;
	const known = sessionKey === undefined ? signers : [privateKeyToAccount(sessionKey), ...signers];
	const account = known.find(({ address }) => sameAddress(address, signer));
	if (account === undefined) return voucher;
	const domain = createVoucherDomain(state.chainId, state.escrow);
	const signed = { channelId: state.channelId, cumulativeAmount };
	// A signer that is a contract, or whose owner says no, leaves the amount.
	const signature = await signVoucher(account, domain, signed).catch(() => undefined);
	if (signature === undefined) return voucher;
	const verdict = createVoucherVerifier({ cacheSize: 1 }).verifyVoucher(domain, signer, signed, signature);
	return { ...voucher, signature, scheme: verdict === "valid" ? "ecdsa" : "erc1271" };
}

type ChainPart = NonNullable<Evidence["chain"]>;
type EscrowRecord = NonNullable<ChainPart["channel"]>;
type EscrowEvents = NonNullable<ChainPart["events"]>;

async function chainOf(parts: EvidenceParts, { state, createdAtMs }: ChannelRecord): Promise<ChainPart> {
	const { channelId, chainId, escrow } = state;
	const client = await parts.nodes.at(chainId);
	const { number: head, timestamp } = await client.getBlock({ blockTag: "latest" });
	const [channel, closeGraceSeconds] = await Promise.all([
		readChannel(client, escrow, channelId, head),
		readCloseGraceSeconds(client, escrow).catch(() => undefined),
	]);
	const events = async () => {
		const opened = await blockAt(client, Math.floor(createdAtMs / 1_000) - CLOCK_SLACK_SECONDS, head);
		const fromBlock = head - opened > MOST_BLOCKS ? head - MOST_BLOCKS : opened;
		const found = await readEscrowEvents(client, escrow, { fromBlock, toBlock: head, channelId });
		return {
			events: found.map((event) => toWire(event) as EscrowEvents[number]),
			eventsFromBlock: String(fromBlock),
		};
	};
	return {
		blockNumber: String(head),
		timestamp: Number(timestamp),
		...(closeGraceSeconds !== undefined && { closeGraceSeconds }),
		channel: channel === undefined ? null : (toWire(channel) as EscrowRecord),
		...(await events().catch(() => undefined)),
	};
}

/** Each challenge once, the oldest first. */
function challengesOf({ challenge }: ChannelRecord, receipts: readonly ReceiptRecord[]): Challenge[] {
	const all = [...receipts.map((one) => one.challenge), ...(challenge === undefined ? [] : [challenge])];
	return [...new Map(all.map((one) => [one.id, { ...one }])).values()];
}

function moment(unixMs: number): string {
	return new Date(unixMs).toISOString();
}
