/** What a step means where the sequence is by then: a call of the model, or something around it. */
import { type Address, type Hex, keccak256, numberToHex } from "viem";
import { computeChannelId, openNonce, topUpNonce, voucherSigner } from "./channelRules.ts";
import { type Flaw, signedBy } from "./forgery.ts";
import { PAYEE_NONCES } from "./observation.ts";
import type { Cast } from "./stage.ts";
import type { Amount, Sender, Step, When } from "./steps.ts";
import {
	type Call,
	type Channel,
	type Message,
	type OpenTerms,
	type Signature,
	type State,
	UINT128_MAX,
	UINT256_MAX,
	type VoucherTerms,
	ZERO,
} from "./terms.ts";

export type Scene = Readonly<{ state: State; cast: Cast; tokens: readonly Address[]; others: readonly Hex[] }>;

type StepOf<Do extends Step["do"]> = Extract<Step, { do: Do }>;

/** Permit2 nonces: the ends of the bitmap's words, as for the payee's. */
const PERMIT_NONCES = PAYEE_NONCES;

export function resolveOpen(scene: Scene, step: StepOf<"open">): Call {
	const { cast } = scene;
	const { relayer } = cast;
	const like = step.like === undefined ? undefined : existing(scene, step.like);
	const payer = step.wrong === "no payer" ? ZERO : (like?.channel.payer ?? pick(cast.payers, step.payer));
	const terms: OpenTerms = {
		payee:
			step.wrong === "no payee"
				? ZERO
				: (like?.channel.payee ?? pick([...cast.payees, ...cast.payees, pick(cast.payers, 0)], step.payee)),
		token: step.wrong === "no token" ? cast.stranger : (like?.channel.token ?? pick(scene.tokens, step.token)),
		authorizedSigner:
			like?.channel.authorizedSigner ?? pick([ZERO, ...cast.delegates, payer, cast.payees[0] ?? ZERO], step.signer),
		salt: salt(step.salt),
		deposit: step.deposit,
	};
	if (step.how === "directly") {
		// Nobody can send from the zero address.
		return { kind: "open", sender: payer === ZERO ? cast.stranger : payer, ...terms };
	}
	// Draft, "Front-Running Protection": the call names another payee than the one signed for.
	const sent = step.wrong === "front-run" ? { ...terms, payee: cast.stranger } : terms;
	if (step.how === "with Permit2") {
		const { payee, salt: ofChannel, authorizedSigner } = terms;
		const witness = { type: "ChannelOpenWitness", payee, salt: ofChannel, authorizedSigner } as const;
		const permit = permitTerms(scene, step, payer, terms.token, terms.deposit, witness);
		return { kind: "openWithPermit2", sender: relayer, ...sent, ...permit };
	}
	const signed = openNonce(payer, terms);
	const nonce = step.wrong === "nonce" ? keccak256(signed) : signed;
	return {
		kind: "openWithAuthorization",
		sender: relayer,
		...sent,
		...authorizationTerms(scene, step, payer, terms.token, terms.deposit, nonce),
	};
}

export function resolveTopUp(scene: Scene, step: StepOf<"top up">): Call {
	const { state, cast } = scene;
	const { channelId, channel } = existing(scene, step.channel);
	const additionalDeposit = amountOf(channel, step.amount);
	const others = cast.payers.filter((payer) => payer !== channel.payer);
	const from = { payer: channel.payer, funder: cast.funder, payee: channel.payee, "other payer": pick(others, 0) }[
		step.by
	];
	if (step.how === "directly") return { kind: "topUp", sender: from, channelId, additionalDeposit };
	const signedFor = step.wrong === "front-run" ? existing(scene, step.channel + 1).channelId : channelId;
	if (step.how === "with Permit2") {
		const witness = { type: "ChannelTopUpWitness", channelId: signedFor } as const;
		const permit = permitTerms(scene, step, from, channel.token, additionalDeposit, witness);
		return { kind: "topUpWithPermit2", sender: cast.relayer, channelId, additionalDeposit, ...permit };
	}
	const topUpSalt = salt(step.salt);
	const signed = topUpNonce(from, { channelId: signedFor, additionalDeposit }, topUpSalt);
	const nonce = step.wrong === "nonce" ? keccak256(signed) : signed;
	return {
		kind: "topUpWithAuthorization",
		sender: cast.relayer,
		channelId,
		additionalDeposit,
		topUpSalt,
		...authorizationTerms({ ...scene, state }, step, from, channel.token, additionalDeposit, nonce),
	};
}

export function resolveRedemption(scene: Scene, step: StepOf<"settle" | "close">): Call {
	const { state, cast } = scene;
	const { channelId, channel } = existing(scene, step.channel);
	const terms = { channelId, cumulativeAmount: amountOf(channel, step.amount) };
	const signature = voucherSignature(scene, channel, terms, step.flaw);
	if (!step.relayed) return { kind: step.do, sender: senderOf(cast, channel.payee, step.sender), ...terms, signature };
	const nonce = pick(PAYEE_NONCES, step.nonce);
	const deadline = at(state, step.until);
	const type = step.do === "settle" ? "SettleAuthorization" : "CloseAuthorization";
	const message: Message = { type, chainId: state.chainId, contract: state.escrow, ...terms, nonce, deadline };
	const payeeSignature = signedBy(scene, channel.payee, message, step.payeeFlaw);
	const kind = step.do === "settle" ? "settleWithAuthorization" : "closeWithAuthorization";
	return { kind, sender: cast.relayer, ...terms, nonce, deadline, payeeSignature, signature };
}

export function resolveBatch(scene: Scene, step: StepOf<"settle many" | "close many">): Call {
	const { payee } = existing(scene, step.rows[0]?.channel ?? 0).channel;
	const rows = step.rows.map(({ channel: which, amount, flaw }) => {
		const { channelId, channel } = existing(scene, which);
		const terms = { channelId, cumulativeAmount: amountOf(channel, amount) };
		return { ...terms, signature: packable(voucherSignature(scene, channel, terms, flaw)) };
	});
	const kind = step.do === "settle many" ? "settleMany" : "closeMany";
	return { kind, sender: senderOf(scene.cast, payee, step.sender), rows };
}

export function resolvePayersCall(scene: Scene, step: StepOf<"request close" | "withdraw">): Call {
	const { channelId, channel } = existing(scene, step.channel);
	const sender = senderOf(scene.cast, channel.payer, step.sender);
	return { kind: step.do === "withdraw" ? "withdraw" : "requestClose", sender, channelId };
}

/** When the grace period of a channel is just not over, just over, or long over; a while later where none runs. */
export function resolveWait(scene: Scene, step: StepOf<"wait">): bigint {
	const { closeRequestedAt } = existing(scene, step.channel).channel;
	if (closeRequestedAt === 0n) return scene.state.time + BigInt(step.seconds);
	const readyAt = closeRequestedAt + scene.state.closeGracePeriod;
	return { before: readyAt - 1n, at: readyAt, after: readyAt + BigInt(step.seconds) }[step.until];
}

/** One of the channels, the newest for -1, or, one index in so many, an id that none has. */
export function existing({ state, cast }: Scene, index: number): Readonly<{ channelId: Hex; channel: Channel }> {
	const ids = Object.keys(state.channels) as Hex[];
	const channelId = index < 0 ? ids.at(index) : ids[index % (ids.length + 1)];
	const channel = channelId === undefined ? undefined : state.channels[channelId];
	if (channelId !== undefined && channel !== undefined) return { channelId, channel };
	const [payer = ZERO, payee = ZERO] = [cast.payers[0], cast.payees[0]];
	const token = Object.keys(state.tokens)[0] as Address;
	const terms = { payee, token, salt: salt(99), authorizedSigner: ZERO };
	const none = { deposit: 0n, settled: 0n, closeRequestedAt: 0n, finalized: false };
	return { channelId: computeChannelId(state, payer, terms), channel: { ...none, payer, ...terms } };
}

export function senderOf({ relayer, stranger }: Cast, right: Address, sender: Sender): Address {
	return { right, relayer, other: stranger }[sender];
}

export function pick<T>(items: readonly T[], index: number): T {
	const item = items[index % items.length];
	if (item === undefined) throw new TypeError("nothing to pick from");
	return item;
}

export function amountOf({ settled, deposit }: Channel, { base, plus }: Amount): bigint {
	const bases = {
		nothing: 0n,
		settled,
		between: (settled + deposit) / 2n,
		deposit,
		room: UINT128_MAX - deposit,
		uint128: UINT128_MAX,
	};
	const amount = bases[base] + plus;
	if (amount < 0n) return 0n;
	return amount > UINT128_MAX ? UINT128_MAX : amount;
}

function at({ time }: State, when: When): bigint {
	return { "long ago": 0n, "just before": time - 1n, now: time, "just after": time + 1n, never: UINT256_MAX }[when];
}

function salt(index: number): Hex {
	return numberToHex(index, { size: 32 });
}

function voucherSignature(scene: Scene, channel: Channel, terms: VoucherTerms, flaw: Flaw) {
	const { chainId, escrow: contract } = scene.state;
	return signedBy(scene, voucherSigner(channel), { type: "Voucher", chainId, contract, ...terms }, flaw);
}

/** What 64 bytes can carry of a signature: a canonical one, or something that is none. */
function packable(signature: Signature): Signature {
	return signature !== "empty" && signature.form === "canonical" ? signature : "empty";
}

function authorizationTerms(
	scene: Scene,
	{ from: after, until, flaw }: Readonly<{ from: When; until: When; flaw: Flaw }>,
	from: Address,
	token: Address,
	value: bigint,
	nonce: Hex,
) {
	const { chainId, escrow: to } = scene.state;
	const [validAfter, validBefore] = [at(scene.state, after), at(scene.state, until)];
	const times = { validAfter, validBefore };
	const message = {
		type: "ReceiveWithAuthorization",
		chainId,
		contract: token,
		from,
		to,
		value,
		...times,
		nonce,
	} as const;
	return { from, ...times, nonce, signature: signedBy(scene, from, message, flaw) };
}

function permitTerms(
	scene: Scene,
	{ permitNonce, until, flaw }: Readonly<{ permitNonce: number; until: When; flaw: Flaw }>,
	from: Address,
	token: Address,
	amount: bigint,
	witness: Extract<Message, { type: "PermitWitnessTransferFrom" }>["witness"],
) {
	const { chainId, escrow: spender, permit2: contract } = scene.state;
	const terms = { nonce: pick(PERMIT_NONCES, permitNonce), deadline: at(scene.state, until) };
	const message: Message = {
		type: "PermitWitnessTransferFrom",
		chainId,
		contract,
		token,
		amount,
		spender,
		...terms,
		witness,
	};
	return { from, ...terms, signature: signedBy(scene, from, message, flaw) };
}
