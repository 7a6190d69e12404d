import {
	decodeRequest,
	parseSessionRequest,
	parseTimestamp,
	receiptFromJson,
	type SessionReceipt,
} from "../../protocol/index.ts";
import { computeChannelId, createVoucherDomain, createVoucherVerifier, voucherSigner } from "../../voucher/index.ts";
import { EVIDENCE_FORMAT, EVIDENCE_VERSION, type Evidence, evidenceSchema } from "./evidenceSchema.ts";

/** The document is no evidence of a channel, or of a version that this release does not read. */
export class EvidenceFormatError extends Error {
	override readonly name = "EvidenceFormatError";
	readonly code = "EVIDENCE_FORMAT";
}

/** `unknown`: the document does not have what it takes to tell. */
export type EvidenceResult = "ok" | "failed" | "unknown";

export type EvidenceCheck = Readonly<{
	/**
	 * `channel-id`: the id is made of the parameters. `voucher`: the signature is the signer's, for the highest amount.
	 * `receipts`: they are the channel's, and ask for no more than was signed. `receipt-order`: the server's counts never fall.
	 * `challenges`: they ask for payments by this channel. `chain`: the escrow's record is this channel's, and no more was
	 * settled than signed. `events`: they tell the same as the record.
	 */
	name: "channel-id" | "voucher" | "receipts" | "receipt-order" | "challenges" | "chain" | "events";
	result: EvidenceResult;
	/** Why; for people. */
	detail: string;
}>;

export type EvidenceVerdict = Readonly<{
	/** No check has failed. What can't be told from the document alone is not in it: read `checks`. */
	isConsistent: boolean;
	checks: readonly EvidenceCheck[];
	evidence: Evidence;
}>;

/**
 * Checks a channel's evidence, as anybody can who has nothing but the document: what it says of the chain a node of that
 * chain has to confirm, and what the receipts say only their server can.
 *
 * @throws EvidenceFormatError naming what is missing or wrong
 * @example
 * const { isConsistent, checks } = verifyEvidence(JSON.parse(await readFile("channel.json", "utf8")));
 */
export function verifyEvidence(document: unknown): EvidenceVerdict {
	const evidence = parseEvidence(document);
	const checks = [
		checkOf("channel-id", idResult(evidence)),
		checkOf("voucher", voucherResult(evidence)),
		checkOf("receipts", receiptsResult(evidence)),
		checkOf("receipt-order", orderResult(evidence)),
		checkOf("challenges", challengesResult(evidence)),
		checkOf("chain", chainResult(evidence)),
		checkOf("events", eventsResult(evidence)),
	];
	return { isConsistent: checks.every(({ result }) => result !== "failed"), checks, evidence };
}

type Finding = readonly [result: EvidenceResult, detail: string];

function checkOf(name: EvidenceCheck["name"], [result, detail]: Finding): EvidenceCheck {
	return { name, result, detail };
}

function parseEvidence(document: unknown): Evidence {
	const { format, version } = (document ?? {}) as { format?: unknown; version?: unknown };
	if (format !== EVIDENCE_FORMAT)
		throw new EvidenceFormatError(`this is no evidence of a channel: its format is not "${EVIDENCE_FORMAT}"`);
	if (version !== EVIDENCE_VERSION)
		throw new EvidenceFormatError(`evidence of version ${String(version)} is not read here, only ${EVIDENCE_VERSION}`);
	const parsed = evidenceSchema.safeParse(document);
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	throw new EvidenceFormatError(`evidence ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is invalid"}`);
}

function idResult({ channel: { channelId, salt, ...parameters } }: Evidence): Finding {
	if (salt === undefined) return ["unknown", "the salt is not known: only the escrow told of this channel"];
	const computed = computeChannelId({ ...parameters, salt });
	if (computed === channelId) return ["ok", "the id is made of the parameters"];
	return ["failed", `the parameters make ${computed}`];
}

function voucherResult({ channel, voucher, wallet }: Evidence): Finding {
	if (voucher === undefined)
		return wallet.signed === "0" ? ["ok", "none was ever signed"] : ["failed", "there is none, but its amount is told"];
	const { cumulativeAmount, signer, signature, scheme } = voucher;
	if (cumulativeAmount !== wallet.signed) return ["failed", `it is of ${cumulativeAmount}, not of ${wallet.signed}`];
	if (signer !== voucherSigner(channel))
		return ["failed", `vouchers of this channel are signed by ${voucherSigner(channel)}`];
	if (signature === undefined)
		return ["unknown", `the amount is ${cumulativeAmount}; the signature is not in the document`];
	if (scheme === "erc1271") return ["unknown", `ask the contract ${signer} whether the signature is its own`];
	const { channelId, chainId, escrow } = channel;
	const signed = { channelId, cumulativeAmount: BigInt(cumulativeAmount) };
	const domain = createVoucherDomain(chainId, escrow);
	const verdict = createVoucherVerifier({ cacheSize: 1 }).verifyVoucher(domain, signer, signed, signature);
	return verdict === "valid" ? ["ok", `${signer} has signed for ${cumulativeAmount}`] : ["failed", verdict];
}

function receiptsResult(evidence: Evidence): Finding {
	const { channel, wallet, receipts, challenges } = evidence;
	const signed = BigInt(wallet.signed);
	for (const [index, { receipt: json, challengeId }] of receipts.entries()) {
		const wrong = (detail: string): Finding => ["failed", `receipt ${index + 1}: ${detail}`];
		const receipt = sessionReceipt(json);
		if (receipt === undefined) return wrong("is no session receipt");
		if (receipt.channelId !== channel.channelId) return wrong(`is of channel ${receipt.channelId}`);
		if (receipt.chainId !== channel.chainId) return wrong(`is of chain ${receipt.chainId}`);
		if (receipt.spent > receipt.acceptedCumulative)
			return wrong(`${receipt.spent} were spent of ${receipt.acceptedCumulative} accepted`);
		if (receipt.acceptedCumulative > signed)
			return wrong(`${receipt.acceptedCumulative} were accepted, and ${signed} signed for`);
		if (!challenges.some(({ id }) => id === challengeId)) return wrong("its challenge is not in the document");
	}
	return ["ok", receipts.length === 0 ? "there are none" : `${receipts.length}, for no more than was signed`];
}

function orderResult({ receipts }: Evidence): Finding {
	const counts = receipts
		.flatMap(({ receipt }) => sessionReceipt(receipt) ?? [])
		.map(({ timestamp, spent, acceptedCumulative }) => ({
			at: parseTimestamp(timestamp) ?? 0,
			spent,
			acceptedCumulative,
		}))
		.sort((a, b) => a.at - b.at || (a.spent < b.spent ? -1 : 1));
	for (const [index, now] of counts.entries()) {
		const before = counts[index - 1];
		if (before === undefined) continue;
		if (now.spent < before.spent)
			return ["failed", `the server's count fell from ${before.spent} to ${now.spent} spent`];
		if (now.acceptedCumulative < before.acceptedCumulative)
			return [
				"failed",
				`the server's count fell from ${before.acceptedCumulative} to ${now.acceptedCumulative} accepted`,
			];
	}
	return ["ok", "the server's counts never fall"];
}

function challengesResult({ channel, challenges }: Evidence): Finding {
	for (const [index, challenge] of challenges.entries()) {
		const wrong = (detail: string): Finding => ["failed", `challenge ${index + 1}: ${detail}`];
		try {
			const { currency, recipient, methodDetails } = parseSessionRequest(decodeRequest(challenge));
			if (currency !== channel.token) return wrong(`is for token ${currency}`);
			if (recipient !== channel.payee) return wrong(`pays ${recipient}`);
			if (methodDetails.chainId !== channel.chainId) return wrong(`is for chain ${methodDetails.chainId}`);
			if (methodDetails.escrowContract !== channel.escrow)
				return wrong(`is for escrow ${methodDetails.escrowContract}`);
		} catch {
			return wrong("its request can't be read");
		}
	}
	return ["ok", challenges.length === 0 ? "there are none" : `${challenges.length}, for this payee, token and escrow`];
}

function chainResult({ channel, chain, wallet }: Evidence): Finding {
	if (chain === undefined) return ["unknown", `nothing is said of the chain; ask a node of chain ${channel.chainId}`];
	if (chain.channel === null) return ["ok", `the escrow had no such channel at block ${chain.blockNumber}`];
	const { payer, payee, token, authorizedSigner, deposit, settled } = chain.channel;
	const told = { payer, payee, token, authorizedSigner };
	for (const name of ["payer", "payee", "token", "authorizedSigner"] as const) {
		if (told[name] !== channel[name]) return ["failed", `the escrow's ${name} is ${told[name]}`];
	}
	if (BigInt(settled) > BigInt(deposit)) return ["failed", `${settled} were settled of a deposit of ${deposit}`];
	if (BigInt(settled) > BigInt(wallet.signed))
		return ["failed", `${settled} were settled, and ${wallet.signed} signed for`];
	return ["ok", `${settled} of ${deposit} were settled at block ${chain.blockNumber}, as a node of the payer's says`];
}

function eventsResult({ channel, chain }: Evidence): Finding {
	const { events, channel: record } = chain ?? {};
	if (events === undefined || record === undefined) return ["unknown", "there are none in the document"];
	const stranger = events.find(({ channelId }) => channelId !== channel.channelId);
	if (stranger !== undefined) return ["failed", `one is of channel ${stranger.channelId}`];
	const amountOf = (name: "settled" | "deposit") =>
		events.findLast((event) => typeof event[name] === "string" && event.name !== "SettlementSkipped")?.[name];
	for (const name of ["settled", "deposit"] as const) {
		const last = amountOf(name);
		if (last !== undefined && last !== record?.[name])
			return ["failed", `the last one says ${name} ${String(last)}, the escrow ${record?.[name] ?? "nothing"}`];
	}
	if (!events.some(({ name }) => name === "ChannelOpened")) return ["unknown", "they do not go back to the opening"];
	return ["ok", `${events.length}, from the opening on`];
}

function sessionReceipt(json: unknown): SessionReceipt | undefined {
	try {
		const receipt = receiptFromJson(json);
		return receipt.intent === "session" ? receipt : undefined;
	} catch {
		return undefined;
	}
}
