/**
 * The parts of the world that are not the escrow's: ERC-20 and EIP-3009 tokens, Permit2, and who has signed what. They
 * follow their own specifications; only what the escrow can run into is here.
 */
import type { Address } from "viem";
import {
	type Happening,
	type Message,
	type Refusal,
	type Signature,
	type State,
	type Token,
	type Transfer,
	UINT256_MAX,
} from "./terms.ts";

/** What came of an attempt to move tokens. */
export type Moved = Readonly<{ ok: true; state: State } | { ok: false; refusals: readonly Refusal[] }>;

/**
 * Whether `signer` has signed `message`. Draft, "Signature Verification": 65 canonical bytes of the signer's own key, or
 * whatever its ERC-1271 contract agrees to. The key comes first also where there is code (DESIGN 6: EIP-7702 accounts),
 * and a high s is refused before a contract could agree to it ("Canonical signatures").
 */
export function hasSigned(state: State, signer: Address, message: Message, signature: Signature): boolean {
	if (signature !== "empty" && signature.form === "high-s") return false;
	return isOwnSignature(signer, message, signature) || walletAgrees(state, signer, message, signature);
}

/** By the key of `signer` itself, in the draft's one form. */
export function isOwnSignature(signer: Address, message: Message, signature: Signature): boolean {
	return (
		signature !== "empty" && signature.form === "canonical" && signature.key === signer && isOver(signature, message)
	);
}

function isOver(signature: Exclude<Signature, "empty">, message: Message): boolean {
	return fingerprint(signature.message) === fingerprint(message);
}

function walletAgrees(state: State, signer: Address, message: Message, signature: Signature): boolean {
	const wallet = state.wallets[signer];
	if (wallet === undefined) return false;
	if ("credulous" in wallet) return true;
	return (
		signature !== "empty" &&
		signature.form === "wrapped" &&
		signature.key === wallet.owner &&
		isOver(signature, message)
	);
}

/** Two messages are the same exactly when this is. */
export function fingerprint(message: Message): string {
	return JSON.stringify(message, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
}

/** A plain ERC-20 transfer. Moving nothing is not attempted: there is nothing to pay. */
export function transfer(state: State, { token, from, to, amount }: Transfer): Moved {
	const before = state.tokens[token];
	if (before === undefined) return { ok: false, refusals: [{ error: "no token" }] };
	if (amount === 0n) return { ok: true, state };
	const refusals = transferRefusals(before, { token, from, to, amount });
	if (refusals.length > 0) return { ok: false, refusals };
	const paid: Record<Address, bigint> = { ...before.balances, [from]: balance(before, from) - amount };
	const balances = { ...paid, [to]: (paid[to] ?? 0n) + amount + before.skew };
	return { ok: true, state: withToken(state, token, { ...before, balances }) };
}

/** ERC-20 `transferFrom` by `spender`. OpenZeppelin's infinite allowance is not used up. */
export function transferFrom(state: State, spender: Address, asked: Transfer): Moved {
	const token = state.tokens[asked.token];
	if (token === undefined) return { ok: false, refusals: [{ error: "no token" }] };
	const key = `${asked.from}:${spender}`;
	const allowance = token.allowances[key] ?? 0n;
	const refusals = allowance < asked.amount ? [{ error: "ERC20InsufficientAllowance" }] : [];
	const moved = transfer(state, asked);
	if (!moved.ok) return { ok: false, refusals: [...refusals, ...moved.refusals] };
	if (refusals.length > 0) return { ok: false, refusals };
	if (allowance === UINT256_MAX) return moved;
	const after = moved.state.tokens[asked.token] ?? token;
	const allowances = { ...after.allowances, [key]: allowance - asked.amount };
	return { ok: true, state: withToken(moved.state, asked.token, { ...after, allowances }) };
}

/** EIP-3009 `receiveWithAuthorization`: `to` is the caller. A token asks only the contract where there is one, as USDC does. */
export function receiveWithAuthorization(
	state: State,
	message: Extract<Message, { type: "ReceiveWithAuthorization" | "TransferWithAuthorization" }>,
	signature: Signature,
): Moved {
	const { contract, from, to, value, validAfter, validBefore, nonce } = message;
	const token = state.tokens[contract];
	if (token === undefined) return { ok: false, refusals: [{ error: "no token" }] };
	const key = `${from}:${nonce}`;
	const refusals: Refusal[] = [];
	if (state.time <= validAfter || state.time >= validBefore)
		refusals.push({ error: "ERC3009InvalidAuthorizationTime" });
	if (token.usedAuthorizations[key]) refusals.push({ error: "ERC3009UsedAuthorization" });
	const isSigned = state.wallets[from]
		? walletAgrees(state, from, message, signature)
		: isOwnSignature(from, message, signature);
	if (!isSigned) refusals.push({ error: "ERC3009InvalidSignature" });
	const moved = transfer(state, { token: contract, from, to, amount: value });
	if (!moved.ok) return { ok: false, refusals: [...refusals, ...moved.refusals] };
	if (refusals.length > 0) return { ok: false, refusals };
	const after = moved.state.tokens[contract] ?? token;
	const usedAuthorizations = { ...after.usedAuthorizations, [key]: true as const };
	return { ok: true, state: withToken(moved.state, contract, { ...after, usedAuthorizations }) };
}

const PERMIT2_SIGNATURE_ERRORS: readonly Refusal[] = [
	"InvalidSigner",
	"InvalidSignature",
	"InvalidSignatureLength",
	"InvalidContractSignature",
].map((error) => ({ error: `Permit2 ${error}` }));

/** Permit2's `permitWitnessTransferFrom`, called by `message.spender`, of the whole permitted amount to the spender. */
export function permitWitnessTransferFrom(
	state: State,
	owner: Address,
	message: Extract<Message, { type: "PermitWitnessTransferFrom" }>,
	signature: Signature,
): Moved {
	const { token, amount, spender, nonce, deadline } = message;
	const key = `${owner}:${nonce}`;
	const refusals: Refusal[] = [];
	if (state.time > deadline) refusals.push({ error: "Permit2 SignatureExpired" });
	if (state.usedPermits[key]) refusals.push({ error: "Permit2 InvalidNonce" });
	if (!permit2Agrees(state, owner, message, signature)) refusals.push(...PERMIT2_SIGNATURE_ERRORS);
	const moved = transferFrom(state, state.permit2, { token, from: owner, to: spender, amount });
	// Permit2's transfer library has one word for whatever goes wrong in the token.
	if (!moved.ok) return { ok: false, refusals: [...refusals, { error: "TRANSFER_FROM_FAILED" }] };
	if (refusals.length > 0) return { ok: false, refusals };
	return { ok: true, state: { ...moved.state, usedPermits: { ...moved.state.usedPermits, [key]: true } } };
}

/** Permit2 takes compact signatures and any s, and asks only the contract where there is one; its nonces stop replays. */
function permit2Agrees(state: State, owner: Address, message: Message, signature: Signature): boolean {
	if (state.wallets[owner]) return walletAgrees(state, owner, message, signature);
	if (signature === "empty" || signature.key !== owner) return false;
	return ["canonical", "compact", "high-s"].includes(signature.form) && isOver(signature, message);
}

/** What happens around the escrow, always to its end. */
export function happen(state: State, happening: Happening): State {
	const token = state.tokens[happening.token];
	if (token === undefined) throw new TypeError("no such token");
	switch (happening.kind) {
		case "approve": {
			const allowances = { ...token.allowances, [`${happening.owner}:${happening.spender}`]: happening.amount };
			return withToken(state, happening.token, { ...token, allowances });
		}
		case "block": {
			const blocked = { ...token.blocked, [happening.account]: happening.blocked };
			return withToken(state, happening.token, { ...token, blocked });
		}
		case "transfer": {
			const moved = transfer(state, happening);
			if (!moved.ok) throw new TypeError("a transfer that was not possible");
			return moved.state;
		}
	}
}

export function balance(token: Token, account: Address): bigint {
	return token.balances[account] ?? 0n;
}

function transferRefusals(token: Token, { from, to, amount }: Transfer): Refusal[] {
	const refusals: Refusal[] = [];
	if (token.blocked[from] || token.blocked[to]) refusals.push({ error: "Blocked" });
	if (balance(token, from) < amount) refusals.push({ error: "ERC20InsufficientBalance" });
	return refusals;
}

function withToken(state: State, address: Address, token: Token): State {
	return { ...state, tokens: { ...state.tokens, [address]: token } };
}
