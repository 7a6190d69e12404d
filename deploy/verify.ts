import { type Address, type Hex, keccak256, type PublicClient, pad, size, slice, stringToHex, toHex } from "viem";
import { paymentChannelEscrowImmutables, paymentChannelEscrowRuntime } from "../src/escrow/generated/escrowRuntime.ts";
import { readEscrow } from "../src/escrow/index.ts";
import { createVoucherDomain, VOUCHER_DOMAIN_NAME, VOUCHER_DOMAIN_VERSION } from "../src/voucher/index.ts";
import { CANONICAL_PERMIT2, type EscrowArguments, REFERENCE_GRACE_SECONDS } from "./plan.ts";

/** What lies at the address is not this build's escrow with these arguments. */
export class DeploymentMismatchError extends Error {
	override readonly name = "DeploymentMismatchError";
	readonly code = "DEPLOYMENT_MISMATCH";
	readonly address: Address;
	/** What differs: that there is code, the code, or the name of a view or an immutable. */
	readonly what: string;
	readonly expected: string;
	readonly actual: string;
	constructor(
		address: Address,
		difference: Readonly<{ what: string; expected: string; actual: string }>,
		hint: string,
	) {
		const { what, expected, actual } = difference;
		super(`the contract at ${address} is not the expected escrow: ${what} is ${actual}, not ${expected}; ${hint}`);
		this.address = address;
		this.what = what;
		this.expected = expected;
		this.actual = actual;
	}
}

/** An escrow that was verified. Addresses are lowercase. */
export type VerifiedDeployment = EscrowArguments & Readonly<{ chainId: number; escrow: Address; codeHash: Hex }>;

const OTHER_CODE =
	"it is of another release or of somebody else: check out the release it was made with, or don't use it";
const OTHER_ARGUMENTS = "give the arguments it was made with (--grace-period, --permit2), or use another escrow";
const UNKNOWN = "this is a fault of this release (deploy/verify.ts does not know what the constructor writes there)";

/**
 * Verifies an escrow on chain against this build: the code byte by byte, the constructor's arguments by its views, and
 * every value that the constructor wrote into the code.
 *
 * @param args what it should have been made with; default: 900 s and the canonical Permit2
 * @throws {DeploymentMismatchError} naming the first difference; viem's errors when the node can't be asked
 * @example
 * ```ts
 * const { codeHash } = await verifyDeployment(client, escrow, { closeGracePeriodSeconds: 900 });
 * ```
 */
export async function verifyDeployment(
	client: PublicClient,
	address: Address,
	args: Partial<EscrowArguments> = {},
): Promise<VerifiedDeployment> {
	const escrow = address.toLowerCase() as Address;
	const closeGracePeriodSeconds = args.closeGracePeriodSeconds ?? REFERENCE_GRACE_SECONDS;
	const permit2 = (args.permit2 ?? CANONICAL_PERMIT2).toLowerCase() as Address;
	const [chainId, code = "0x"] = await Promise.all([client.getChainId(), client.getCode({ address: escrow })]);
	compareCode(escrow, code, chainId);

	const domainSeparator = toHex(createVoucherDomain(chainId, escrow).separator);
	const facts = await readEscrow(client, escrow, chainId);
	const compare = (what: string, expected: string, actual: string, hint: string) => {
		if (actual !== expected) throw new DeploymentMismatchError(escrow, { what, expected, actual }, hint);
	};
	compare("CLOSE_GRACE_PERIOD", `${closeGracePeriodSeconds}`, `${facts.closeGraceSeconds}`, OTHER_ARGUMENTS);
	compare("PERMIT2", permit2, facts.permit2, OTHER_ARGUMENTS);
	compare("DOMAIN_SEPARATOR", domainSeparator, facts.domainSeparator, OTHER_CODE);

	// A view shows one place of several, and some values have none.
	const written = expectedImmutables({ escrow, chainId, closeGracePeriodSeconds, permit2, domainSeparator });
	for (const [name, starts] of Object.entries(paymentChannelEscrowImmutables)) {
		const expected = written[name];
		const values = starts.map((start) => slice(code, start, start + 32));
		for (const value of values) {
			if (expected === undefined)
				compare(`the immutable ${name}`, "a value that this release can check", value, UNKNOWN);
			else compare(`the immutable ${name}`, expected, value, OTHER_CODE);
		}
	}
	return { chainId, escrow, closeGracePeriodSeconds, permit2, codeHash: keccak256(code) };
}

/** Byte by byte, without the places that the constructor writes to. */
function compareCode(escrow: Address, code: Hex, chainId: number): void {
	const expected = paymentChannelEscrowRuntime.toLowerCase();
	const differ = (what: string, wanted: string, actual: string, hint = OTHER_CODE) => {
		throw new DeploymentMismatchError(escrow, { what, expected: wanted, actual }, hint);
	};
	if (code === "0x") {
		const hint = `fix the address, or deploy to chain ${chainId} with \`sluice deploy\``;
		differ("its code", "present", "missing", hint);
	}
	if (code.length !== expected.length) {
		differ("the size of its code", `${size(paymentChannelEscrowRuntime)} bytes`, `${size(code)} bytes`);
	}
	const masked = maskImmutables(code.toLowerCase());
	if (masked === expected) return;
	const index = [...masked].findIndex((digit, place) => digit !== expected[place]);
	const byte = Math.floor(index / 2) - 1;
	const byteOf = (hex: string) => `0x${hex.slice(2 * byte + 2, 2 * byte + 4)}`;
	differ(`byte ${byte} of its code`, byteOf(expected), byteOf(masked));
}

function maskImmutables(code: string): string {
	let masked = code;
	for (const start of Object.values(paymentChannelEscrowImmutables).flat()) {
		const from = 2 + 2 * start;
		masked = `${masked.slice(0, from)}${"0".repeat(64)}${masked.slice(from + 64)}`;
	}
	return masked;
}

/** What the constructor writes: its arguments, and what OpenZeppelin's `EIP712` keeps of the domain. */
function expectedImmutables(
	values: Readonly<{
		escrow: Address;
		chainId: number;
		closeGracePeriodSeconds: number;
		permit2: Address;
		domainSeparator: Hex;
	}>,
): Readonly<Record<string, Hex>> {
	return {
		CLOSE_GRACE_PERIOD: toHex(values.closeGracePeriodSeconds, { size: 32 }),
		PERMIT2: pad(values.permit2),
		_cachedThis: pad(values.escrow),
		_cachedChainId: toHex(values.chainId, { size: 32 }),
		_cachedDomainSeparator: values.domainSeparator,
		_hashedName: keccak256(stringToHex(VOUCHER_DOMAIN_NAME)),
		_hashedVersion: keccak256(stringToHex(VOUCHER_DOMAIN_VERSION)),
		_name: shortString(VOUCHER_DOMAIN_NAME),
		_version: shortString(VOUCHER_DOMAIN_VERSION),
	};
}

/** OpenZeppelin's `ShortString`: the text from the left, its length in the last byte. */
function shortString(text: string): Hex {
	return `${pad(stringToHex(text), { dir: "right", size: 31 })}${text.length.toString(16).padStart(2, "0")}`;
}
