/**
 * A paid server in a few lines, for what clients sign: it takes every credential of the drafts, has each executed on a
 * real chain, and says what the chain says. It keeps no store and answers one request at a time.
 */

import { type Address, type Hex, type LocalAccount, parseTransaction, recoverTransactionAddress } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import {
	closeCall,
	findChannelOpened,
	findToppedUp,
	findTransfers,
	openWithAuthorizationCall,
	openWithPermit2Call,
	permitTransferCall,
	topUpWithAuthorizationCall,
	topUpWithPermit2Call,
	transferWithAuthorizationCall,
} from "../../src/escrow/index.ts";
import {
	type Challenge,
	encodeReceipt,
	formatTimestamp,
	parseChargePayload,
	parseChargeRequest,
	parseSessionPayload,
	parseSource,
	type SessionPayload,
	type VoucherDeposit,
} from "../../src/protocol/index.ts";
import {
	CANONICAL_PERMIT2,
	chargeNonce,
	createPermit2Domain,
	createVoucherDomain,
	createVoucherVerifier,
	paymentPermitDigest,
	voucherSigner,
} from "../../src/voucher/index.ts";
import { mined } from "../support/mined.ts";
import type { Stage } from "./stage.ts";
import { type Call, challengeOf, paymentRequired, type Reply, receiptHeader, refusal, type Script } from "./support.ts";

export type RelayOptions = Readonly<{
	price?: bigint;
	/** What it asks for. Default: a session by every credential type, in this order: authorization, permit2, hash. */
	offers?: (relay: Relay) => readonly Challenge[];
	/** Wire members of a session's request and of its details. */
	terms?: Readonly<Record<string, unknown>>;
	details?: Readonly<Record<string, unknown>>;
	minVoucherDelta?: bigint;
	/** The clock of its challenges, in Unix milliseconds. */
	now?: () => number;
}>;

/** What became of one channel. */
type Book = { accepted: bigint; spent: bigint; funded: Set<string> };

const verifier = createVoucherVerifier();

export class Relay {
	readonly stage: Stage;
	readonly payee: LocalAccount;
	readonly address: Address;
	readonly books = new Map<Hex, Book>();
	/** Deposits that were executed, each once. */
	readonly executed: string[] = [];
	/** Charges that were paid, by what they were paid with. */
	readonly charged: string[] = [];
	readonly #options: RelayOptions;
	#turn: Promise<unknown> = Promise.resolve();

	constructor(stage: Stage, options: RelayOptions = {}) {
		this.stage = stage;
		this.payee = privateKeyToAccount(generatePrivateKey());
		this.address = this.payee.address.toLowerCase() as Address;
		this.#options = options;
	}

	get price(): bigint {
		return this.#options.price ?? 100n;
	}

	session(terms: Readonly<Record<string, unknown>> = {}, details: Readonly<Record<string, unknown>> = {}): Challenge {
		const { stage, address, price } = this;
		const { now = Date.now } = this.#options;
		const request = {
			amount: String(price),
			suggestedDeposit: "1000",
			currency: stage.token,
			recipient: address,
			...this.#options.terms,
			...terms,
			methodDetails: {
				chainId: stage.chain.chainId,
				escrowContract: stage.escrow,
				feePayer: true,
				credentialTypes: ["authorization", "permit2", "hash"],
				...this.#options.details,
				...details,
			},
		};
		return challengeOf(request, { expires: formatTimestamp(now() + 300_000) });
	}

	charge(details: Readonly<Record<string, unknown>> = {}, terms: Readonly<Record<string, unknown>> = {}): Challenge {
		const { stage, address, price } = this;
		const { chainId } = stage.chain;
		return challengeOf(
			{
				amount: String(price),
				currency: stage.token,
				recipient: address,
				...terms,
				methodDetails: { chainId, credentialTypes: ["permit2", "authorization", "transaction", "hash"], ...details },
			},
			{ intent: "charge" },
		);
	}

	readonly script: Script = (call) => {
		const reply = this.#turn.then(() => this.#answer(call));
		this.#turn = reply.catch(() => undefined);
		return reply;
	};

	/** Puts a channel in the books that was paid on before. */
	remember(channelId: Hex, accepted: bigint, spent: bigint): void {
		this.books.set(channelId, { accepted, spent, funded: new Set() });
	}

	async #answer(call: Call): Promise<Reply> {
		const offers = this.#options.offers?.(this) ?? [this.session()];
		if (call.credential === undefined) return paymentRequired(...offers);
		await this.stage.giveGas(this.payee.address);
		if (call.credential.challenge.intent === "charge") return this.#charge(call, offers);
		return this.#session(call, parseSessionPayload(call.credential.payload), offers);
	}

	async #session(call: Call, payload: SessionPayload, offers: readonly Challenge[]): Promise<Reply> {
		const { channelId } = payload;
		const { stage, price } = this;
		if (payload.action === "open") {
			await this.#open(call, payload);
			this.books.set(channelId, this.books.get(channelId) ?? { accepted: 0n, spent: 0n, funded: new Set() });
		}
		const book = this.books.get(channelId);
		const before = await stage.onChain(channelId);
		if (book === undefined || before === undefined) return refusal("session/channel-not-found");
		const receipt = () => ({
			headers: receiptHeader(call, stage.chain.chainId, book.spent, { acceptedCumulative: book.accepted }),
		});
		if (payload.action === "topUp") {
			if (payload.type === "hash") await this.#checkTopUp(call, payload, book);
			else await this.#topUp(channelId, { ...payload, action: "topUp" } as VoucherDeposit, book);
			return receipt();
		}
		if (payload.action === "voucher" && payload.deposit !== undefined)
			await this.#topUp(channelId, payload.deposit, book);
		const onChain = (await stage.onChain(channelId)) ?? before;
		const { cumulativeAmount } = payload;
		const signature = "voucherSignature" in payload ? payload.voucherSignature : payload.signature;
		const domain = createVoucherDomain(stage.chain.chainId, stage.escrow);
		const verdict = verifier.verifyVoucher(domain, voucherSigner(onChain), { channelId, cumulativeAmount }, signature);
		if (verdict !== "valid") return refusal("session/invalid-signature", {}, ...offers);
		if (cumulativeAmount > onChain.deposit) return refusal("session/amount-exceeds-deposit", {}, ...offers);
		if (payload.action === "close") {
			await stage.send(closeCall(stage.escrow, channelId, cumulativeAmount, signature), this.payee);
			return receipt();
		}
		const { minVoucherDelta = 0n } = this.#options;
		const isSmall = cumulativeAmount > book.accepted && cumulativeAmount - book.accepted < minVoucherDelta;
		if (isSmall && book.accepted > 0n && cumulativeAmount !== onChain.deposit) {
			return refusal("session/delta-too-small", { requiredCumulative: book.accepted + minVoucherDelta }, ...offers);
		}
		if (cumulativeAmount > book.accepted) book.accepted = cumulativeAmount;
		if (call.method === "HEAD") return receipt();
		const requiredCumulative = book.spent + price;
		if (book.accepted < requiredCumulative)
			return refusal("session/insufficient-balance", { requiredCumulative }, ...offers);
		book.spent += price;
		return { ...receipt(), body: "served" };
	}

	async #open({ credential }: Call, payload: Extract<SessionPayload, { action: "open" }>): Promise<void> {
		const { stage } = this;
		const { channelId, salt, authorizedSigner } = payload;
		const channel = { payee: this.address, token: stage.token, salt, authorizedSigner };
		if ((await stage.onChain(channelId)) !== undefined && payload.type !== "hash") return;
		if (payload.type === "hash") {
			const receipt = await stage.chain.client.getTransactionReceipt({ hash: payload.hash });
			const opened = findChannelOpened(receipt, stage.escrow, channelId);
			const source = parseSource(credential?.source ?? "");
			if (opened?.payer.toLowerCase() !== source?.address) throw new Error("opened by somebody else");
			return;
		}
		const { signature } = payload;
		const call =
			payload.type === "authorization"
				? openWithAuthorizationCall(stage.escrow, channel, { ...payload.authorization, signature })
				: openWithPermit2Call(stage.escrow, channel, {
						...payload.authorization,
						amount: payload.authorization.permitted.amount,
						signature,
					});
		await stage.send(call, this.payee);
		this.executed.push(`open ${payload.type}`);
	}

	async #topUp(channelId: Hex, deposit: VoucherDeposit, book: Book): Promise<void> {
		if (deposit.action !== "topUp") throw new Error("the channel is open");
		const { stage } = this;
		const { signature } = deposit;
		const name = `${deposit.type} ${deposit.authorization.nonce}`;
		if (book.funded.has(name)) return;
		const call =
			deposit.type === "authorization"
				? topUpWithAuthorizationCall(stage.escrow, channelId, deposit.salt, { ...deposit.authorization, signature })
				: topUpWithPermit2Call(stage.escrow, channelId, {
						...deposit.authorization,
						amount: deposit.authorization.permitted.amount,
						signature,
					});
		await stage.send(call, this.payee);
		book.funded.add(name);
		this.executed.push(`topUp ${deposit.type}`);
	}

	async #checkTopUp(
		{ credential }: Call,
		payload: Extract<SessionPayload, { action: "topUp"; type: "hash" }>,
		book: Book,
	): Promise<void> {
		if (book.funded.has(payload.hash)) return;
		const { stage } = this;
		const receipt = await stage.chain.client.getTransactionReceipt({ hash: payload.hash });
		const [event] = findToppedUp(receipt, stage.escrow, payload.channelId);
		if (event?.amount !== payload.additionalDeposit) throw new Error("another amount");
		if (parseSource(credential?.source ?? "") === undefined) throw new Error("no source");
		book.funded.add(payload.hash);
		this.executed.push("topUp hash");
	}

	async #charge({ credential }: Call, offers: readonly Challenge[]): Promise<Reply> {
		const { stage, address } = this;
		if (credential === undefined) throw new Error("no credential");
		const { client, chainId } = stage.chain;
		const { challenge, source } = credential;
		const payload = parseChargePayload(credential.payload);
		const payer = parseSource(source ?? "")?.address;
		const terms = parseChargeRequest(JSON.parse(Buffer.from(challenge.request, "base64url").toString("utf8")));
		if (payer === undefined) throw new Error("no source");
		const paid = async (hash: Hex, name: string): Promise<Reply> => {
			const receipt = await client.getTransactionReceipt({ hash });
			const transfers = findTransfers(receipt, stage.token);
			const splits = terms.methodDetails.splits ?? [];
			const rest = splits.reduce((left, split) => left - split.amount, terms.amount);
			const expected = [
				{ to: address, value: rest },
				...splits.map(({ recipient, amount }) => ({ to: recipient, value: amount })),
			];
			const isPaid = expected.every(({ to, value }, index) => {
				const transfer = transfers[index];
				return transfer?.to.toLowerCase() === to && transfer.value === value && transfer.from.toLowerCase() === payer;
			});
			if (!isPaid || this.charged.includes(name)) return refusal("verification-failed", {}, ...offers);
			this.charged.push(name);
			return {
				headers: {
					"payment-receipt": encodeReceipt({
						method: "evm",
						intent: "charge",
						status: "success",
						timestamp: formatTimestamp(Date.now()),
						challengeId: challenge.id,
						chainId,
						reference: hash,
					}),
				},
				body: "served",
			};
		};
		switch (payload.type) {
			case "authorization": {
				if (payload.nonce !== chargeNonce(challenge.id, challenge.realm)) throw new Error("another challenge");
				const { type: _, ...authorization } = payload;
				return paid(
					await stage.send(transferWithAuthorizationCall(stage.token, authorization), this.payee),
					payload.nonce,
				);
			}
			case "permit2": {
				const { permit, transferDetails, witness, signature } = payload;
				if (witness.challengeHash !== chargeNonce(challenge.id, challenge.realm)) throw new Error("another challenge");
				if (witness.externalId !== (terms.externalId ?? "")) throw new Error("another order");
				const permit2 = terms.methodDetails.permit2Address ?? CANONICAL_PERMIT2;
				const whole = { ...permit, spender: address, witness };
				const digest = paymentPermitDigest(createPermit2Domain(chainId, permit2), whole, "draft");
				const form = verifier.verifyDigest(payer, digest, signature) === "valid" ? "draft" : "eip712";
				const call = permitTransferCall(permit2, payer, whole, transferDetails, form, signature);
				return paid(await stage.send(call, this.payee), `${form} ${permit.nonce}`);
			}
			case "transaction": {
				const { signature: raw } = payload;
				if (parseTransaction(raw as `0x02${string}`).type !== "eip1559") throw new Error("another type");
				const from = await recoverTransactionAddress({ serializedTransaction: raw as `0x02${string}` });
				if (from.toLowerCase() !== payer) throw new Error("another payer");
				const hash = await client.sendRawTransaction({ serializedTransaction: raw });
				await mined(client, hash);
				return paid(hash, hash);
			}
			default:
				return paid(payload.hash, payload.hash);
		}
	}
}
