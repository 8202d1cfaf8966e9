//! The checked-in records of what hardware does, on the core. Runs on every host.

#[test]
fn every_record_of_the_sample_holds() {
    let checked = tab86_oracle::sample::check().expect("the sample is well-formed");
    assert!(checked.failures.is_empty(), "{} differ:\n{}", checked.failures.len(), checked.failures.join("\n"));
    assert!(checked.passed > 3_000, "{} records: the sample is not whole", checked.passed);
}

#[test]
fn a_vector_survives_its_line() {
    let line = "code=0f58c1 at=20000123 eax=5 fl=a93 sel=2b,23,2b,2b,0,f mxcsr=001f0000 \
                xmm1=000102030405060708090a0b0c0d0e0f fill=7b [30000010]=01ff";
    let vector = tab86_oracle::text::parse(line).expect("a line");
    assert_eq!(tab86_oracle::text::print(&vector), line);
    assert!(tab86_oracle::text::parse("eax=5").is_err());
    assert!(tab86_oracle::text::parse("code=90 eax=zz").is_err());
    assert!(tab86_oracle::text::parse("code=9").is_err());
}
