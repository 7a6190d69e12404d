/**
 * What gets signed: channel ids, vouchers, ERC-3009 authorizations, Permit2 permits and the payee's authorizations;
 * signing and verifying them. Runs in Node and in browsers, and imports nothing else of Sluice.
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
export {
	type ChannelOpenWitness,
	type ChannelPermit,
	type ChannelPermitTypedData,
	type ChannelTopUpWitness,
	channelPermitDigest,
	channelPermitTypedData,
	signChannelPermit,
} from "./channelPermit.ts";
export { KNOWN_SIGNATURE, portableSecp256k1, type Secp256k1 } from "./curve.ts";
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
	type CloseAuthorizationTypedData,
	closeAuthorizationTypedData,
	type PayeeAuthorization,
	type PayeeAuthorizationKind,
	payeeAuthorizationDigest,
	type SettleAuthorizationTypedData,
	settleAuthorizationTypedData,
	signPayeeAuthorization,
} from "./payeeAuthorization.ts";
export {
	PAYMENT_WITNESS_FORMS,
	type PaymentPermit,
	type PaymentPermitTypedData,
	type PaymentSigner,
	type PaymentWitness,
	type PaymentWitnessForm,
	paymentPermitDigest,
	paymentPermitTypedData,
	paymentWitnessHash,
	paymentWitnessTypeString,
	signPaymentPermit,
} from "./paymentPermit.ts";
export { CANONICAL_PERMIT2, createPermit2Domain, type Permit2Domain, type TokenPermissions } from "./permit2.ts";
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
