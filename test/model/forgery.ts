/** Signatures as they should be, and all the ways in which they are not. */
import { type Address, type Hex, keccak256 } from "viem";
import type { Cast } from "./stage.ts";
import { type Message, type Signature, type State, UINT256_MAX } from "./terms.ts";

/** What is wrong with a signature. Not everything is wrong everywhere: a wallet takes another form than a key makes. */
export const FLAWS = [
	"none",
	"of a stranger",
	"of the payee",
	"other chain",
	"other contract",
	"other amount",
	"other subject",
	"other type",
	"other form",
	"high-s",
	"v-0-or-1",
	"compact",
	"empty",
] as const;
export type Flaw = (typeof FLAWS)[number];

/** `account`'s signature of `message`, or what `flaw` makes of it. `others` are channels that it could be meant for. */
export function signedBy(
	{ state, cast, others }: Readonly<{ state: State; cast: Cast; others: readonly Hex[] }>,
	account: Address,
	message: Message,
	flaw: Flaw,
): Signature {
	const right = rightly(state, cast, account, message);
	switch (flaw) {
		case "none":
			return right;
		case "of a stranger":
			return { key: cast.stranger, message, form: "canonical" };
		case "of the payee":
			return { key: cast.payees[0] ?? cast.stranger, message, form: "canonical" };
		case "other form":
			return right.form === "wrapped" ? { ...right, form: "canonical" } : { ...right, form: "wrapped" };
		case "high-s":
		case "v-0-or-1":
		case "compact":
			return { ...right, form: flaw };
		case "empty":
			return "empty";
		default:
			return { ...right, message: altered(message, flaw, others) };
	}
}

/** Made by the account's own key, or by its owner's where there is none, or where only code is asked. */
function rightly(state: State, cast: Cast, account: Address, message: Message): Exclude<Signature, "empty"> {
	const wallet = state.wallets[account];
	if (wallet === undefined) return { key: hasKey(cast, account) ? account : cast.stranger, message, form: "canonical" };
	if ("credulous" in wallet) return { key: cast.stranger, message, form: "canonical" };
	const forEscrow = ["Voucher", "SettleAuthorization", "CloseAuthorization"].includes(message.type);
	if (forEscrow && hasKey(cast, account)) return { key: account, message, form: "canonical" };
	return { key: wallet.owner, message, form: "wrapped" };
}

function hasKey({ payers, payees, delegates, funder, relayer, stranger }: Cast, account: Address): boolean {
	const [plain, rich, , smart] = payers;
	return [plain, rich, smart, payees[0], payees[1], delegates[0], funder, relayer, stranger].includes(account);
}

type Alteration = Extract<Flaw, "other chain" | "other contract" | "other amount" | "other subject" | "other type">;

function altered(message: Message, alteration: Alteration, others: readonly Hex[]): Message {
	switch (alteration) {
		case "other chain":
			return { ...message, chainId: message.chainId + 1 };
		case "other contract":
			return { ...message, contract: "0x00000000000000000000000000000000000000ee" };
		case "other amount":
			return withOtherAmount(message);
		case "other subject":
			return withOtherSubject(message, others);
		case "other type":
			return withOtherType(message);
	}
}

function withOtherAmount(message: Message): Message {
	const other = (amount: bigint) => (amount > 0n ? amount - 1n : 1n);
	if ("cumulativeAmount" in message) return { ...message, cumulativeAmount: other(message.cumulativeAmount) };
	if ("value" in message) return { ...message, value: other(message.value) };
	return { ...message, amount: other(message.amount) };
}

/** For another channel of these tests, or under another nonce. */
function withOtherSubject(message: Message, others: readonly Hex[]): Message {
	switch (message.type) {
		case "Voucher":
			return { ...message, channelId: others.find((id) => id !== message.channelId) ?? keccak256(message.channelId) };
		case "SettleAuthorization":
		case "CloseAuthorization":
			return { ...message, nonce: message.nonce === UINT256_MAX ? 0n : message.nonce + 1n };
		case "ReceiveWithAuthorization":
		case "TransferWithAuthorization":
			return { ...message, nonce: keccak256(message.nonce) };
		case "PermitWitnessTransferFrom": {
			const { witness } = message;
			const other =
				witness.type === "ChannelOpenWitness"
					? { ...witness, salt: keccak256(witness.salt) }
					: { ...witness, channelId: keccak256(witness.channelId) };
			return { ...message, witness: other };
		}
	}
}

/** The nearest thing that the same key might have signed instead. */
function withOtherType(message: Message): Message {
	switch (message.type) {
		case "SettleAuthorization":
			return { ...message, type: "CloseAuthorization" };
		case "CloseAuthorization":
			return { ...message, type: "SettleAuthorization" };
		case "ReceiveWithAuthorization":
			return { ...message, type: "TransferWithAuthorization" };
		case "TransferWithAuthorization":
			return { ...message, type: "ReceiveWithAuthorization" };
		case "Voucher":
			return { ...message, type: "SettleAuthorization", nonce: 0n, deadline: UINT256_MAX };
		case "PermitWitnessTransferFrom":
			return { ...message, spender: message.contract };
	}
}
