import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { evidence } from "../../../src/client/recovery/evidence.ts";
import type { Evidence } from "../../../src/client/recovery/evidenceSchema.ts";
import { requestClose } from "../../../src/client/recovery/requestClose.ts";
import { type EvidenceCheck, verifyEvidence } from "../../../src/client/recovery/verifyEvidence.ts";
import type { PayerStore, ReceiptRecord } from "../../../src/client/store/store.ts";
import {
	type Challenge,
	createChallenge,
	encodeSessionRequest,
	receiptToJson,
	type SessionRequest,
} from "../../../src/protocol/index.ts";
import { createStage, type Stage } from "../stage.ts";
import {
	DEPOSIT,
	type Funded,
	fundedChannel,
	partsFor,
	SIGNED,
	thrown,
	type WalletFolder,
	walletFolder,
} from "./support.ts";

const SECRET = "a secret of a server that is gone, 32 bytes";

let stage: Stage;
const folders: WalletFolder[] = [];
const stores: PayerStore[] = [];
beforeAll(async () => {
	stage = await createStage();
});
afterEach(async () => {
	for (const store of stores.splice(0)) await store.close();
	for (const folder of folders.splice(0)) await folder.remove();
});
afterAll(() => stage.stop());

async function keptChannel(options: Parameters<typeof fundedChannel>[1] = {}, settled = 150n) {
	const channel = await fundedChannel(stage, options);
	const challenge = challengeFor(channel);
	const folder = await walletFolder({ ...channel.record, challenge });
	const store = await folder.open();
	folders.push(folder);
	stores.push(store);
	if (settled > 0n) await channel.settle(settled);
	for (const [seconds, spent] of [100n, 300n].entries()) {
		await store.note(receiptOf(channel, challenge, seconds === 0 ? "open" : "voucher", seconds, spent));
	}
	return { channel, challenge, store, parts: partsFor(stage, channel.payer, store) };
}

function challengeFor({ record: { state } }: Funded, changes: Partial<SessionRequest> = {}): Challenge {
	const { chainId, escrow, token, payee } = state;
	const details = { methodDetails: { chainId, escrowContract: escrow } };
	const request = encodeSessionRequest({ amount: 100n, currency: token, recipient: payee, ...details, ...changes });
	return createChallenge(SECRET, { realm: "gone.example", method: "evm", intent: "session", request });
}

function receiptOf(
	{ channelId, record: { state } }: Funded,
	challenge: Challenge,
	kind: ReceiptRecord["kind"],
	seconds: number,
	spent: bigint,
	acceptedCumulative = SIGNED,
): ReceiptRecord {
	const { chainId, token, payee } = state;
	const receipt = receiptToJson({
		...{ method: "evm", status: "success", intent: "session", challengeId: challenge.id, chainId, channelId },
		...{ reference: channelId, acceptedCumulative, spent },
		timestamp: new Date(1_750_000_000_000 + seconds * 1_000).toISOString(),
	});
	const { url, method } = state.resource;
	return { kind, atMs: Date.now(), url, method, amount: "100", chainId, token, payee, channelId, challenge, receipt };
}

/** As it comes out of a file. */
const carried = (document: Evidence): Evidence => JSON.parse(JSON.stringify(document)) as Evidence;

const resultOf = (checks: readonly EvidenceCheck[], name: EvidenceCheck["name"]) =>
	checks.find((one) => one.name === name)?.result;

describe("a channel's evidence", () => {
	it("is one JSON document that a stranger can check, and holds no key", async () => {
		const { channel, challenge, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const document = carried(await evidence(parts, channel.channelId));
		const { isConsistent, checks } = verifyEvidence(document);
		expect(checks.filter(({ result }) => result !== "ok")).toEqual([]);
		expect(isConsistent).toBe(true);
		expect(document).toMatchObject({
			format: "sluice-channel-evidence",
			version: 1,
			wallet: { status: "forgotten", signed: String(SIGNED), deposit: String(DEPOSIT) },
			voucher: { cumulativeAmount: String(SIGNED), signature: await channel.voucher(SIGNED), scheme: "ecdsa" },
			challenges: [challenge],
			chain: { channel: { deposit: String(DEPOSIT), settled: "150", finalized: false }, closeGraceSeconds: 900 },
			recovery: [{ kind: "requestClose" }],
		});
		expect(document.receipts.map(({ receipt }) => receipt.spent)).toEqual(["100", "300"]);
		expect(document.chain?.events?.map(({ name }) => name)).toEqual(["ChannelOpened", "Settled", "CloseRequested"]);
		expect(JSON.stringify(document)).not.toContain(channel.key.slice(2));
	});

	it("has URLs without query and fragment, which may hold keys", async () => {
		const { parts, channel } = await keptChannel({ url: "https://gone.example/quote?api_key=hunter2#hunter3" });
		const document = carried(await evidence(parts, channel.channelId));
		expect(document.resource.url).toBe("https://gone.example/quote");
		expect(document.receipts.map(({ url }) => url)).toEqual([document.resource.url, document.resource.url]);
		expect(JSON.stringify(document)).not.toContain("hunter");
		expect(verifyEvidence(document).isConsistent).toBe(true);
	});

	it("has the voucher signed by the channel's session key, which is not in it", async () => {
		const sessionKey = generatePrivateKey();
		const { channel, parts } = await keptChannel({ sessionKey });
		const document = carried(await evidence({ ...parts, signers: [] }, channel.channelId));
		expect(document.voucher).toMatchObject({
			signer: privateKeyToAccount(sessionKey).address.toLowerCase(),
			signature: await channel.voucher(SIGNED),
		});
		expect(verifyEvidence(document).isConsistent).toBe(true);
		expect(JSON.stringify(document)).not.toContain(sessionKey.slice(2));
	});

	it("has the amount alone where the signer is not at hand, or it is to be left out", async () => {
		const { channel, parts } = await keptChannel();
		const stranger = await stage.payer();
		const away = carried(await evidence({ ...parts, signers: [stranger] }, channel.channelId));
		const left = carried(await evidence(parts, channel.channelId, { withVoucher: false }));
		for (const document of [away, left]) {
			expect(document.voucher).toEqual({
				cumulativeAmount: String(SIGNED),
				signer: channel.payer.address.toLowerCase(),
			});
			const { checks, isConsistent } = verifyEvidence(document);
			expect(resultOf(checks, "voucher")).toBe("unknown");
			expect(isConsistent).toBe(true);
		}
	});

	it("is there without a node, and says that it knows nothing of the chain", async () => {
		const { channel, parts } = await keptChannel();
		const nodes = { at: async () => Promise.reject(new Error("the node is gone")) };
		const document = carried(await evidence({ ...parts, nodes }, channel.channelId));
		expect(document.chain).toBeUndefined();
		expect(resultOf(verifyEvidence(document).checks, "chain")).toBe("unknown");
	});

	it("is there for a channel that was never opened, or only named by a server", async () => {
		const { channel, parts } = await keptChannel({ isOpened: false, signed: 0n }, 0n);
		const unopened = await evidence(parts, channel.channelId);
		expect(unopened).toMatchObject({ chain: { channel: null } });
		expect(unopened.voucher).toBeUndefined();
		const { salt: _, ...rest } = carried(unopened).channel;
		expect(resultOf(verifyEvidence({ ...carried(unopened), channel: rest }).checks, "channel-id")).toBe("unknown");
	});

	it("is not there for a channel that the wallet does not have", async () => {
		const { parts } = await keptChannel();
		expect(await thrown(evidence(parts, `0x${"ab".repeat(32)}`))).toMatchObject({ code: "CHANNEL_UNKNOWN" });
	});
});

describe("whoever changes evidence is found out:", () => {
	const OTHER = `0x${"99".repeat(20)}` as const;
	type Change = (document: Evidence) => Evidence;
	const changes: readonly (readonly [string, EvidenceCheck["name"], Change])[] = [
		["another payee", "channel-id", (one) => ({ ...one, channel: { ...one.channel, payee: OTHER } })],
		["another chain", "channel-id", (one) => ({ ...one, channel: { ...one.channel, chainId: 1 } })],
		["a higher amount", "voucher", (one) => withVoucher(one, { cumulativeAmount: "401" }, "401")],
		["a lower amount", "voucher", (one) => withVoucher(one, { cumulativeAmount: "399" }, "399")],
		["books that differ from the voucher", "voucher", (one) => withVoucher(one, {}, "500")],
		["another signer", "voucher", (one) => withVoucher(one, { signer: OTHER })],
		["another signature", "voucher", (one) => withVoucher(one, { signature: `0x${"11".repeat(65)}` })],
		["no voucher", "voucher", ({ voucher: _, ...one }) => one],
		["a receipt above what was signed", "receipts", (one) => withReceipt(one, { acceptedCumulative: "401" })],
		["a receipt that spent more than accepted", "receipts", (one) => withReceipt(one, { spent: "401" })],
		["a receipt of another chain", "receipts", (one) => withReceipt(one, { chainId: 1 })],
		["a receipt that is none", "receipts", (one) => withReceipt(one, { status: "failed" })],
		["no challenges", "receipts", (one) => ({ ...one, challenges: [] })],
		["a count that falls", "receipt-order", (one) => withReceipt(one, { spent: "50" })],
		["a request that can't be read", "challenges", (one) => withChallenge(one, "bm90IGpzb24")],
		["more settled than signed", "chain", (one) => withChain(one, { settled: "401" })],
		["more settled than deposited", "chain", (one) => withChain(one, { settled: "1001" })],
		["another payer on chain", "chain", (one) => withChain(one, { payer: OTHER })],
		["less settled than the events say", "events", (one) => withChain(one, { settled: "100" })],
	];

	it.each(changes)("%s (%s)", async (_, name, change) => {
		const { channel, parts } = await keptChannel();
		const document = carried(await evidence(parts, channel.channelId));
		const { checks, isConsistent } = verifyEvidence(carried(change(document)));
		expect(resultOf(checks, name), JSON.stringify(checks)).toBe("failed");
		expect(isConsistent).toBe(false);
	});

	it("a challenge of another payee", async () => {
		const { channel, parts } = await keptChannel();
		const document = carried(await evidence(parts, channel.channelId));
		const { request } = challengeFor(channel, { recipient: OTHER });
		expect(resultOf(verifyEvidence(withChallenge(document, request)).checks, "challenges")).toBe("failed");
	});

	it.each([
		null,
		[],
		{},
		{ format: "sluice-channel-evidence", version: 2 },
		{ format: "sluice-channel-evidence", version: 1 },
	])("and %j is no evidence", async (document) => {
		const verify = async () => verifyEvidence(document);
		expect(await thrown(verify())).toMatchObject({ code: "EVIDENCE_FORMAT" });
	});

	function withVoucher(
		one: Evidence,
		changes: Partial<NonNullable<Evidence["voucher"]>>,
		signed = one.wallet.signed,
	): Evidence {
		if (one.voucher === undefined) throw new Error("there is no voucher");
		return { ...one, voucher: { ...one.voucher, ...changes }, wallet: { ...one.wallet, signed } };
	}

	/** The last receipt. */
	function withReceipt(one: Evidence, changes: Readonly<Record<string, string | number>>): Evidence {
		const last = one.receipts.length - 1;
		const receipts = one.receipts.map((each, index) =>
			index === last ? { ...each, receipt: { ...each.receipt, ...changes } } : each,
		);
		return { ...one, receipts };
	}

	function withChallenge(one: Evidence, request: string): Evidence {
		return { ...one, challenges: one.challenges.map((challenge) => ({ ...challenge, request })) };
	}

	function withChain(one: Evidence, changes: object): Evidence {
		if (!one.chain?.channel) throw new Error("the chain is not in it");
		return { ...one, chain: { ...one.chain, channel: { ...one.chain.channel, ...changes } } };
	}
});
