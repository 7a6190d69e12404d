/**
 * What gets signed: channel ids, vouchers and ERC-3009 authorizations; signing and verifying them. Runs in Node and in
 * browsers, and imports nothing else of Sluice.
 */
export {
	type Authorization,
	type AuthorizationKind,
	authorizationDigest,
	chargeNonce,
	openAuthorizationNonce,
	type ReceiveAuthorizationTypedData,
	receiveAuthorizationTypedData,
	signAuthorization,
	type TokenDomain,
	type TransferAuthorizationTypedData,
	topUpAuthorizationNonce,
	transferAuthorizationTypedData,
} from "./authorization.ts";
export { AmountOutOfRangeError, FieldFormatError } from "./bytes.ts";
export {
	type ChannelParameters,
	computeChannelId,
	sameAddress,
	UINT128_MAX,
	voucherSigner,
	ZERO_ADDRESS,
} from "./channel.ts";
export { portableSecp256k1, type Secp256k1 } from "./curve.ts";
export {
	createVoucherDomain,
	domainSeparator,
	type TypedDataDomain,
	VOUCHER_DOMAIN_NAME,
	VOUCHER_DOMAIN_VERSION,
	type VoucherDomain,
	voucherTypedDataDomain,
} from "./domain.ts";
export { type Keccak256, keccak256 } from "./keccak.ts";
export {
	normalizeSignature,
	type ParsedSignature,
	parseSignature,
	SIGNATURE_LENGTH,
	type SignatureFault,
	SignatureFormatError,
} from "./signature.ts";
export type { TypedDataSigner } from "./signer.ts";
export {
	createVoucherVerifier,
	type SignatureVerdict,
	type VoucherVerifier,
	type VoucherVerifierOptions,
} from "./verify.ts";
export {
	signVoucher,
	VOUCHER_TYPES,
	type Voucher,
	type VoucherTypedData,
	voucherDigest,
	voucherTypedData,
} from "./voucher.ts";
