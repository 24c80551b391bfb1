"""Wrong answers to the exercises of lesson 07, and words of what the checker says."""

COMPLEX = (
    "e = torch.polar(torch.ones_like(angles), angles); "
    "q, k = (torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) for x in (q, k)); "
)

ROWS = {
    "three_terms": [
        ("return q + e_q, k + e_k", "all four terms, as in sum"),
        ("return torch.cat([q, e_q], -1), torch.cat([k, e_k], -1)", "That is bias"),
        ("return torch.cat([q, e_q], -1), torch.cat([e_k, k], -1)", "content-content is missing"),
        ("return q, k + e_k", "One mixed term is missing: position-content"),
        ("return q, k", "another score"),
        ("return q[..., :1, :], k", "The scores have shape"),
    ],
    "rope_as_mul": [
        (COMPLEX + "return ((q * e) @ (k * e).mT).real", "The conjugate is missing"),
        (COMPLEX + "return ((q * e).conj() @ k.mT).real", "The keys have positions, too"),
        ("return q @ k.mT", "Nothing was multiplied"),
    ],
}
