// Generated from the contracts by `npm run build:contracts`. Do not edit.

/** What Sluice asks of Permit2, and Permit2's errors. */
export const permit2Abi = [
	{"inputs":[{"components":[{"components":[{"name":"token","type":"address"},{"name":"amount","type":"uint256"}],"name":"permitted","type":"tuple"},{"name":"nonce","type":"uint256"},{"name":"deadline","type":"uint256"}],"name":"permit","type":"tuple"},{"components":[{"name":"to","type":"address"},{"name":"requestedAmount","type":"uint256"}],"name":"transferDetails","type":"tuple"},{"name":"owner","type":"address"},{"name":"witness","type":"bytes32"},{"name":"witnessTypeString","type":"string"},{"name":"signature","type":"bytes"}],"name":"permitWitnessTransferFrom","outputs":[],"stateMutability":"nonpayable","type":"function"},
	{"inputs":[{"components":[{"components":[{"name":"token","type":"address"},{"name":"amount","type":"uint256"}],"name":"permitted","type":"tuple[]"},{"name":"nonce","type":"uint256"},{"name":"deadline","type":"uint256"}],"name":"permit","type":"tuple"},{"components":[{"name":"to","type":"address"},{"name":"requestedAmount","type":"uint256"}],"name":"transferDetails","type":"tuple[]"},{"name":"owner","type":"address"},{"name":"witness","type":"bytes32"},{"name":"witnessTypeString","type":"string"},{"name":"signature","type":"bytes"}],"name":"permitWitnessTransferFrom","outputs":[],"stateMutability":"nonpayable","type":"function"},
	{"inputs":[{"name":"owner","type":"address"},{"name":"wordPosition","type":"uint256"}],"name":"nonceBitmap","outputs":[{"name":"","type":"uint256"}],"stateMutability":"view","type":"function"},
	{"inputs":[{"name":"maxAmount","type":"uint256"}],"name":"InvalidAmount","type":"error"},
	{"inputs":[],"name":"InvalidContractSignature","type":"error"},
	{"inputs":[],"name":"InvalidNonce","type":"error"},
	{"inputs":[],"name":"InvalidSignature","type":"error"},
	{"inputs":[],"name":"InvalidSignatureLength","type":"error"},
	{"inputs":[],"name":"InvalidSigner","type":"error"},
	{"inputs":[],"name":"LengthMismatch","type":"error"},
	{"inputs":[{"name":"signatureDeadline","type":"uint256"}],"name":"SignatureExpired","type":"error"},
] as const;
