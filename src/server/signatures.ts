import { LRUCache } from "lru-cache";
import type { Address, Hex, PublicClient } from "viem";
import { hasCode, isContractSignatureValid } from "../escrow/reads.ts";
import {
	type Keccak256,
	type ParsedSignature,
	parseSignature,
	SignatureFormatError,
	type SignatureVerdict,
	type Voucher,
	type VoucherDomain,
	type VoucherVerifier,
	voucherDigest,
} from "../voucher/index.ts";
import { RateLimit } from "./rateLimit.ts";
import type { RecoveryThreads } from "./recovery/threads.ts";

/** How many signers are remembered for whether they are contracts. */
const KNOWN_SIGNERS = 10_000;

/** How long a signer is taken to be what it was. An account without code may get some. */
const SIGNER_TTL_MS = 60_000;

/** How often in a second the chain is asked what an unknown signer is: anyone can send a bad signature. */
const LOOKS_PER_SECOND = 50;

/** How many contract wallets are asked at a time, and how many questions wait. */
const MAX_ASKED = 32;

export type SignaturesOptions = Readonly<{
	verifier: VoucherVerifier;
	/** Other threads that do the arithmetic of vouchers. */
	threads?: Pick<RecoveryThreads, "recover"> | undefined;
	client: PublicClient;
	now: () => number;
}>;

/** What a voucher's signature was found to be, and by whom. */
export type VoucherVerdict = Readonly<{
	verdict: SignatureVerdict;
	/** Good for ever: the signer's own key made it. What a contract says is good, it may refuse later. */
	isByKey: boolean;
}>;

const BY_KEY: VoucherVerdict = { verdict: "valid", isByKey: true };

/**
 * Verifies signatures of accounts and of contract wallets on one chain (draft-evm-session-00, Signature Verification).
 * ECDSA is tried first: it needs no chain, and accounts with EIP-7702 code sign like that too. Only where it fails is the
 * chain asked, and only of signers that have code (ERC-1271).
 */
export class Signatures {
	readonly #options: SignaturesOptions;
	readonly #contracts: LRUCache<Address, boolean>;
	readonly #looks: RateLimit;
	#asked = 0;

	constructor(options: SignaturesOptions) {
		this.#options = options;
		this.#contracts = new LRUCache({ max: KNOWN_SIGNERS, ttl: SIGNER_TTL_MS });
		this.#looks = new RateLimit({ perSecond: LOOKS_PER_SECOND, keys: 1, now: options.now });
	}

	/** The fastest hash that runs here, for digests to verify. */
	get keccak256(): Keccak256 {
		return this.#options.verifier.keccak256;
	}

	/**
	 * Whether `signature` is `signer`'s over `voucher`; for accounts at once, or when another thread has done the arithmetic.
	 * Rejects when the chain does not answer.
	 */
	verifyVoucher(
		domain: VoucherDomain,
		signer: Address,
		voucher: Voucher,
		signature: Hex,
	): VoucherVerdict | Promise<VoucherVerdict> {
		const { verifier, threads } = this.#options;
		const digest = voucherDigest(domain, voucher, verifier.keccak256);
		const parsed = threads && parsedOrNot(signature);
		const elsewhere = parsed && threads?.recover(parsed.compact, parsed.recovery, digest);
		if (elsewhere === undefined)
			return this.#voucherVerdict(
				signer,
				digest,
				signature,
				verifier.verifyDigest(signer, digest, parsed ?? signature),
			);
		return elsewhere.then((key) => this.#voucherVerdict(signer, digest, signature, verifier.verdictOn(signer, key)));
	}

	#voucherVerdict(
		signer: Address,
		digest: Uint8Array,
		signature: Hex,
		verdict: SignatureVerdict,
	): VoucherVerdict | Promise<VoucherVerdict> {
		if (verdict !== "valid")
			return this.#askContract(signer, digest, signature, verdict).then((said) => ({ verdict: said, isByKey: false }));
		this.#signsItself(signer);
		return BY_KEY;
	}

	/** Whether the signer's own key made the signature: then it is good wherever no contract is asked. Asks nobody. */
	isOfKey(domain: VoucherDomain, signer: Address, voucher: Voucher, signature: Hex): boolean {
		return this.#options.verifier.verifyVoucher(domain, signer, voucher, signature) === "valid";
	}

	/** Whether `signature` is `signer`'s over the 32 bytes `digest`. */
	verifyDigest(signer: Address, digest: Uint8Array, signature: Hex): SignatureVerdict | Promise<SignatureVerdict> {
		const verdict = this.#options.verifier.verifyDigest(signer, digest, signature);
		return verdict === "valid" ? this.#signsItself(signer) : this.#askContract(signer, digest, signature, verdict);
	}

	/**
	 * Which of several digests the signature is over, where that shows only by trying: its place among them, `undefined` when
	 * it is over none. The chain is asked only when no key of the signer's made it.
	 */
	async findSigned(signer: Address, digests: readonly Uint8Array[], signature: Hex): Promise<number | undefined> {
		const verdicts = digests.map((digest) => this.#options.verifier.verifyDigest(signer, digest, signature));
		const signed = verdicts.indexOf("valid");
		if (signed >= 0) {
			this.#signsItself(signer);
			return signed;
		}
		for (const [at, digest] of digests.entries()) {
			const verdict = await this.#askContract(signer, digest, signature, "signer-mismatch");
			if (verdict === "valid") return at;
		}
		return undefined;
	}

	/** Whether this signer's vouchers are good because its contract says so, as far as is known: it may change its mind. */
	isContract(signer: Address): boolean {
		return this.#contracts.get(signer) === true;
	}

	/** Whoever signs with a key needs no chain to be told from a forger for a while. */
	#signsItself(signer: Address): "valid" {
		if (!this.#contracts.has(signer)) this.#contracts.set(signer, false);
		return "valid";
	}

	async #askContract(
		signer: Address,
		digest: Uint8Array,
		signature: Hex,
		otherwise: SignatureVerdict,
	): Promise<SignatureVerdict> {
		if (this.#asked >= MAX_ASKED) throw new SignersBusyError();
		this.#asked++;
		try {
			if (!(await this.#hasCode(signer))) return otherwise;
			return (await isContractSignatureValid(this.#options.client, signer, digest, signature)) ? "valid" : otherwise;
		} finally {
			this.#asked--;
		}
	}

	async #hasCode(signer: Address): Promise<boolean> {
		const known = this.#contracts.get(signer);
		if (known !== undefined) return known;
		if (this.#looks.take("") > 0) throw new SignersBusyError();
		const found = await hasCode(this.#options.client, signer);
		this.#contracts.set(signer, found);
		return found;
	}
}

/** A signature that is not canonical is left to the verifier, which says so. */
function parsedOrNot(signature: Hex): ParsedSignature | undefined {
	try {
		return parseSignature(signature);
	} catch (error) {
		if (error instanceof SignatureFormatError) return undefined;
		throw error;
	}
}

/** Too many signatures wait for the chain: whoever sent this one may come back (I10). */
export class SignersBusyError extends Error {
	override readonly name = "SignersBusyError";
	readonly code = "SIGNERS_BUSY";
	constructor() {
		super("too many signatures have to be checked on chain; try again in a moment");
	}
}
